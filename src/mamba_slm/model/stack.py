"""The whole model: embedding → residual sublayers from the pattern → norm → head.

Letters: b batch, t time, d width, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.model.attention import Attention, rotary_tables
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext, advance, prepare
from mamba_slm.model.kept_float32 import KeptFloat32
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA
from mamba_slm.model.projection import Projection, computed_weight, product_dtype
from mamba_slm.model.state import InferenceState, LayerState
from mamba_slm.model.swiglu import SwiGLU
from mamba_slm.ops.linear import linear
from mamba_slm.ops.loss import DEFAULT_LOSS_CHUNK_TOKENS, IGNORE_INDEX, cross_entropy
from mamba_slm.ops.norm import rms_norm

MIXERS: dict[str, type[nn.Module]] = {MAMBA: Mamba2, ATTENTION: Attention, FEED_FORWARD: SwiGLU}

FIRST_PROJECTIONS = {MAMBA: "in_proj", ATTENTION: "q_proj", FEED_FORWARD: "gate_up_proj"}
"""What of a mixer reads the norm, which writes the dtype that it multiplies."""


def first_projection(kind: str, config: ModelConfig) -> str:
    """What of a mixer reads the norm, by its letter."""
    if kind in FIRST_PROJECTIONS:
        return FIRST_PROJECTIONS[kind]
    from mamba_slm.model.sublayer_plugin import plugins_of

    return plugins_of(config)[kind][0].first_projection


def mixer_of(kind: str, config: ModelConfig) -> nn.Module:
    """The mixer of a letter, uninitialised."""
    if kind in MIXERS:
        return MIXERS[kind](config)
    from mamba_slm.model.plugin_mixer import build_mixer

    return build_mixer(kind, config)


class RMSNorm(KeptFloat32):
    """`rms_norm` with its weight."""

    kept_float32 = ("weight",)

    def __init__(self, size: int, *, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[... d] in `dtype`, or in that of x."""
        return rms_norm(x, self.weight, eps=self.eps, dtype=dtype)


class Sublayer(nn.Module):
    """One letter of the pattern: h + mixer(norm(h)). The residual stream h is float32 also with BF16 weights."""

    def __init__(self, kind: str, config: ModelConfig):
        super().__init__()
        self.kind = kind
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mixer = mixer_of(kind, config)
        self.first_projection = first_projection(kind, config)

    def forward(self, h: Tensor, context: CallContext, state: LayerState) -> Tensor:
        update = self.mixer(self.normed(h), context, state)
        if context.last_only:
            update = update[:, -1:]  # plugins need not know about it
        return h[:, -update.shape[1] :] + update

    def normed(self, h: Tensor) -> Tensor:
        """What the mixer reads of the residual stream [b t d], in the dtype that it multiplies."""
        return self.norm(h, product_dtype(getattr(self.mixer, self.first_projection).weight))


def uninitialized_embedding(rows: int, size: int) -> nn.Embedding:
    """An embedding of whatever its memory holds: on the device "meta", drawing its values would load torch._dynamo."""
    return nn.Embedding(rows, size, _weight=torch.empty(rows, size))


@dataclass(frozen=True, kw_only=True)
class LossSum:
    """A sum of token losses and what it was summed over."""

    total: Tensor
    """Scalar, float32, in nats."""
    num_targets: int
    """Targets that counted."""


class Backbone(nn.Module):
    """Embedding → residual sublayers from the pattern → final norm: everything but the head.

    Tokens of a call may be whole sequences, padded batches (`padding_mask`), packed documents (`document_ids`), or the
    continuation of an `InferenceState`. All of these compute the same function; tests/conformance proves it.

    It has no constructor of its own, so that classes of another library can take it as a second base; `build` makes it.
    """

    architecture: ModelConfig
    embedding: nn.Embedding
    position_embedding: nn.Embedding | None
    sublayers: nn.ModuleList
    final_norm: RMSNorm
    gradient_checkpointing: bool
    draws_in_training: bool = False
    """Whether sublayers draw random numbers, as adapters with dropout do; then recomputing draws the same ones."""

    def build(self, config: ModelConfig) -> None:
        """Create the modules; weights are not initialised (see `model/init.py`)."""
        self.architecture = config
        self.gradient_checkpointing = False
        self.embedding = uninitialized_embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = (
            uninitialized_embedding(config.max_context_tokens, config.hidden_size)
            if config.position == "learned"
            else None
        )
        self.sublayers = nn.ModuleList(Sublayer(kind, config) for kind in config.pattern)
        self.final_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)

    def new_state(self, batch_size: int = 1, *, dtype: torch.dtype | None = None) -> InferenceState:
        """An empty inference state; `dtype` (keys, values, windows) defaults to that of the weights."""
        weight = self.embedding.weight
        return InferenceState.empty(self.architecture, batch_size, device=weight.device, dtype=dtype or weight.dtype)

    def hidden_states(
        self,
        tokens: Tensor | None = None,
        *,
        embedded: Tensor | None = None,
        positions: Tensor | None = None,
        document_ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        state: InferenceState | None = None,
        residuals: list[Tensor] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """[b t] tokens to [b t d] float32 after the final norm, or to [b 1 d] with `last_only`.

        Args:
            tokens: [b t] int64; or give `embedded`.
            embedded: [b t d] in place of the embedding of tokens.
            positions: [b t] of each token in its document; counted when absent. They do not separate documents.
            document_ids: [b t] integers; a change of the id starts a new document, which sees nothing before it.
            padding_mask: [b t] True for real tokens. Padding stands left or right of them; what comes out at padded
                positions means nothing.
            state: continued and advanced in place. With padding, later pieces must be padded on the right.
            residuals: a list that gets the residual stream [b t d] before the first and after every sublayer.
            last_only: nobody wants more than the last position, so what follows the last sublayer that mixes positions
                is computed for this one alone.

        Raises:
            ConfigError: longer than the model's context.
            UsageError: shapes disagree, or padding stands where it cannot be.
        """
        if (tokens is None) == (embedded is None):
            raise UsageError("give either tokens or embedded, and not both")
        size = tokens.shape if tokens is not None else embedded.shape[:2]  # type: ignore[union-attr]
        device = self.embedding.weight.device
        context = prepare(
            (size[0], size[1]),
            device,
            positions=positions,
            document_ids=document_ids,
            padding_mask=padding_mask,
            state=state,
        )
        self.require_room(size[1], state)
        if self.architecture.position == "rope" and self.architecture.num_attention:
            context = replace(context, rotary=rotary_tables(self.architecture, context.positions))
        h = (self.embedding(tokens) if embedded is None else embedded).float()
        if self.position_embedding is not None:
            h = h + self.position_embedding(context.positions).float()
        if residuals is not None:
            residuals.append(h)
        last_mixing = max((i for i, kind in enumerate(self.architecture.pattern) if kind != FEED_FORWARD), default=0)
        for index, sublayer in enumerate(self.sublayers):
            if last_only and index == last_mixing:
                context = replace(context, last_only=True)
            if self.gradient_checkpointing and state is None and torch.is_grad_enabled():
                again = self.draws_in_training
                h = checkpoint(sublayer, h, context, None, use_reentrant=False, preserve_rng_state=again)
            else:
                h = sublayer(h, context, None if state is None else state.layers[index])
            if residuals is not None:
                residuals.append(h)
        if state is not None:
            advance(state, context)
        return self.final_norm(h[:, -1:] if last_only else h)

    def require_room(self, num_new: int, state: InferenceState | None) -> None:
        """Raise ConfigError if `num_new` more tokens would pass the model's context."""
        limit = self.architecture.max_context_tokens
        before = 0
        if state is not None and state.length + num_new > limit:  # only then is the exact count worth a look
            before = int(state.num_tokens.max())
        if before + num_new > limit and (state is None or num_new > 1 or before + 1 > limit):
            raise ConfigError(
                f"{before + num_new} tokens do not fit into the model's context of {limit}",
                hint="shorten the text, or train with a longer one: --model-settings max_context_tokens=N",
            )


class LanguageModel(Backbone):
    """A hybrid language model. `forward` gives logits; `loss` never holds the logits of all tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.build(config)
        self.lm_head = None if config.tie_embeddings else Projection(config.hidden_size, config.vocab_size)

    @property
    def head_weight(self) -> Tensor:
        """[v d] the output matrix as products see it: the embedding's own when tied."""
        return computed_weight(self.embedding if self.lm_head is None else self.lm_head)

    def forward(
        self,
        tokens: Tensor,
        *,
        document_ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        state: InferenceState | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits [b t v] in float32, or [b 1 v] of the last position with `last_only`. See `hidden_states`."""
        hidden = self.hidden_states(
            tokens, document_ids=document_ids, padding_mask=padding_mask, state=state, last_only=last_only
        )
        return self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [... d] under the head to logits [... v] in float32."""
        weight = self.head_weight
        return linear(hidden.to(weight.dtype), weight).float()

    def loss_sum(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        document_ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        chunk_tokens: int = DEFAULT_LOSS_CHUNK_TOKENS,
    ) -> LossSum:
        """Sum of -log p(target) in nats over the targets [b t] that are not -100."""
        hidden = self.hidden_states(inputs, document_ids=document_ids, padding_mask=padding_mask)
        total = cross_entropy(hidden.flatten(0, 1), self.head_weight, targets.flatten(), chunk_tokens=chunk_tokens)
        return LossSum(total=total, num_targets=int((targets != IGNORE_INDEX).sum()))

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        document_ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        chunk_tokens: int = DEFAULT_LOSS_CHUNK_TOKENS,
    ) -> Tensor:
        """Mean of -log p(target) in nats; 0 where no target counts."""
        summed = self.loss_sum(
            inputs, targets, document_ids=document_ids, padding_mask=padding_mask, chunk_tokens=chunk_tokens
        )
        return summed.total / max(summed.num_targets, 1)
