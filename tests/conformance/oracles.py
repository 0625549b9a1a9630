"""Paths that nobody here wrote: transformers' models, on our parameters under their names.

They run in float32 on transformers' own PyTorch code; its optional kernels are not installed. Gradients flow back to
our parameters, so one parameter that meets another's place, or a factor that both sides of a copy share, shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    PreTrainedModel,
    __version__,
)
from transformers.cache_utils import Cache, DynamicCache
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from conformance.models import LENGTHS
from conformance.paths import LogitsOf, Path, in_pieces, one_by_one, padded
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext
from mamba_slm.model.granite import granite_config, to_granite_tensors
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import MambaState

TRANSFORMERS_VERSION = __version__
GRANITE_LAYOUTS = ("portable", "portable, nope", "attention")
HYBRID_LAYOUTS = ("portable", "portable, nope")
LLAMA_LAYOUTS = ("attention", "attention, untied")
DECODED_TOKENS = 12
"""Tokens at the end of each sequence that are read one at a time: three times the convolution."""


class Oracle:
    """A model of transformers that computes with the parameters of one of ours."""

    def __init__(self, network: PreTrainedModel, tensors: Mapping[str, Tensor]):
        self.network, self.tensors = network, dict(network.named_buffers()) | dict(tensors)

    def __call__(
        self, tokens: Tensor, *, mask: Tensor | None = None, cache: Cache | None = None, **settings: Tensor
    ) -> Tensor:
        """[b t] tokens to logits [b t v]; `mask` [b s] covers the tokens in the cache too.

        Positions are counted as `generate` counts them, by the mask.
        """
        if mask is not None:
            positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            settings = {"attention_mask": mask.long(), "position_ids": positions, **settings}
        arguments = {"input_ids": tokens, "past_key_values": cache, "use_cache": cache is not None, **settings}
        return functional_call(self.network, self.tensors, kwargs=arguments, strict=True).logits

    def new_cache(self) -> Cache:
        """An empty cache, as `generate` makes it."""
        return DynamicCache(config=self.network.config)


@cache
def granite_network(config: ModelConfig, attention: str = "eager") -> GraniteMoeHybridForCausalLM:
    """A GraniteMoeHybrid with weights of its own, which an `Oracle` replaces."""
    settings = GraniteMoeHybridConfig(**granite_config(config), attn_implementation=attention)
    return GraniteMoeHybridForCausalLM(settings).eval()


def granite(model: LanguageModel, attention: str = "eager") -> Oracle:
    """GraniteMoeHybrid with the parameters of `model`."""
    tensors = to_granite_tensors(dict(model.named_parameters()), model.config)
    return Oracle(granite_network(model.config, attention), tensors)


@cache
def llama_network(config: ModelConfig) -> LlamaForCausalLM:
    """A Llama with weights of its own, which an `Oracle` replaces."""
    settings = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.feed_forward_size,
        num_hidden_layers=config.num_attention,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        max_position_embeddings=config.max_context_tokens,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_embeddings,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(settings).eval()


def llama(model: LanguageModel) -> Oracle:
    """Llama with the parameters of a model of attention and feed-forwards alone."""
    ours = dict(model.named_parameters())
    tensors = {"model.embed_tokens.weight": ours["embedding.weight"], "model.norm.weight": ours["final_norm.weight"]}
    if model.lm_head is not None:
        tensors["lm_head.weight"] = ours["lm_head.weight"]
    for layer in range(model.config.num_attention):
        mixer, feed_forward = f"sublayers.{2 * layer}", f"sublayers.{2 * layer + 1}"
        theirs = f"model.layers.{layer}"
        tensors[f"{theirs}.input_layernorm.weight"] = ours[f"{mixer}.norm.weight"]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{theirs}.self_attn.{name}.weight"] = ours[f"{mixer}.mixer.{name}.weight"]
        gate, up = ours[f"{feed_forward}.mixer.gate_up_proj.weight"].chunk(2)
        tensors[f"{theirs}.post_attention_layernorm.weight"] = ours[f"{feed_forward}.norm.weight"]
        tensors[f"{theirs}.mlp.gate_proj.weight"] = gate
        tensors[f"{theirs}.mlp.up_proj.weight"] = up
        tensors[f"{theirs}.mlp.down_proj.weight"] = ours[f"{feed_forward}.mixer.down_proj.weight"]
    return Oracle(llama_network(model.config), tensors)


@cache
def mixer_network(config: ModelConfig) -> Mamba2Mixer:
    """A single mixer of transformers' Mamba2."""
    return Mamba2Mixer(mixer_config(config), layer_idx=0).eval()


def mixer_config(config: ModelConfig) -> Mamba2Config:
    """transformers' config of our mixer."""
    return Mamba2Config(
        num_heads=config.num_ssm_heads,
        head_dim=config.ssm_head_dim,
        hidden_size=config.hidden_size,
        state_size=config.state_size,
        num_hidden_layers=1,
        layer_norm_epsilon=config.norm_eps,
        expand=config.expand,
        conv_kernel=config.conv_kernel,
        n_groups=config.num_groups,
        chunk_size=config.chunk_size,
    )


def mixer_output(mixer: Mamba2, u: Tensor, *, mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
    """[b t d] to [b t d] by transformers' mixer with the parameters of ours."""
    tensors = dict(mixer.named_parameters())
    tensors["conv1d.weight"] = tensors.pop("conv_weight")[:, None]
    tensors["conv1d.bias"] = tensors.pop("conv_bias")
    settings = {"cache_params": cache, "attention_mask": mask}
    return functional_call(mixer_network(mixer.config), tensors, (u,), settings, strict=True)


def with_their_mixers(model: LanguageModel) -> LanguageModel:
    """`model` with transformers' Mamba-2 mixer in the place of each of ours, on the same parameters."""

    def forward(
        mixer: Mamba2, caches: dict[int, Cache], u: Tensor, context: CallContext, state: MambaState | None
    ) -> Tensor:
        if state is None:
            return mixer_output(mixer, u, mask=context.padding_mask)
        if context.length_before == 0:
            caches[id(state)] = DynamicCache(config=mixer_config(mixer.config))
        return mixer_output(mixer, u, cache=caches[id(state)])

    for module in model.modules():
        if isinstance(module, Mamba2):
            module.forward = partial(forward, module, {})
    return model


def alone(oracle: Oracle, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Each sequence in one call."""
    return [oracle(tokens[None])[0] for tokens in sequences]


def padded_by(oracle: Oracle, sequences: Sequence[Tensor], side: str) -> list[Tensor]:
    """All sequences as the rows of one batch."""
    tokens, mask = rows_of(sequences, side)
    return [row[real] for row, real in zip(oracle(tokens, mask=mask), mask, strict=True)]


def rows_of(sequences: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """[b t] tokens and their mask."""
    tokens = pad_sequence(list(sequences), batch_first=True, padding_side=side)
    mask = pad_sequence([torch.ones_like(s, dtype=torch.bool) for s in sequences], batch_first=True, padding_side=side)
    return tokens, mask


def cached(oracle: Oracle, tokens: Tensor, cuts: Sequence[int]) -> Tensor:
    """Logits [t v] of one sequence read in pieces that end at `cuts`."""
    cache = oracle.new_cache()
    edges = [0, *(cut for cut in cuts if 0 < cut < len(tokens)), len(tokens)]
    return torch.cat([oracle(tokens[None, a:b], cache=cache) for a, b in pairwise(edges)], dim=1)[0]


def last_tokens_one_by_one(length: int) -> Sequence[int]:
    """Cuts for reading all but the last `DECODED_TOKENS` at once, and those one at a time."""
    return range(max(1, length - DECODED_TOKENS), length)


def decoded(oracle: Oracle, sequences: Sequence[Tensor]) -> list[Tensor]:
    """A prompt, then one token at a time."""
    return [cached(oracle, tokens, last_tokens_one_by_one(len(tokens))) for tokens in sequences]


def prompt_cut(oracle: Oracle, sequences: Sequence[Tensor]) -> list[Tensor]:
    """A prompt in pieces, around the edges of a chunk."""
    return [cached(oracle, tokens, (3, 62, 64, 65, 250)) for tokens in sequences]


def padded_and_decoded(oracle: Oracle, sequences: Sequence[Tensor]) -> list[Tensor]:
    """What `generate` does with a batch: prompts padded on the left, then one token per row and call.

    A row whose tokens run out goes on with token 0, and what it computes then is dropped.
    """
    steps = 8
    prompts = [tokens[: max(1, len(tokens) - steps)] for tokens in sequences]
    tokens, mask = rows_of(prompts, "left")
    cache = oracle.new_cache()
    logits = oracle(tokens, mask=mask, cache=cache)
    found = [[row[real]] for row, real in zip(logits, mask, strict=True)]
    for step in range(steps):
        at = [len(prompt) + step for prompt in prompts]
        column = [s[i : i + 1] if i < len(s) else s.new_zeros(1) for s, i in zip(sequences, at, strict=True)]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        for row, row_logits in enumerate(oracle(torch.stack(column), mask=mask, cache=cache)):
            if at[row] < len(sequences[row]):
                found[row].append(row_logits)
    return [torch.cat(pieces) for pieces in found]


def of(
    make: Callable[[LanguageModel], Oracle], compute: Callable[[Oracle, Sequence[Tensor]], list[Tensor]]
) -> LogitsOf:
    """A path: make the oracle from our model, and compute with it."""
    return lambda model, sequences: compute(make(model), sequences)


def on_their_mixers(compute: LogitsOf) -> LogitsOf:
    """A path of ours, on transformers' mixers."""
    return lambda model, sequences: compute(with_their_mixers(model), sequences)


def our_state_on_their_mixers(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """A prompt, then one token at a time; their mixers keep caches of their own beside our state."""
    model = with_their_mixers(model)
    return [in_pieces(model, tokens, last_tokens_one_by_one(len(tokens))) for tokens in sequences]


oracle = partial(Path, row="oracle")
"""An entry of the registry with the tolerances of the oracles."""
with_cache = partial(oracle, surroundings=allow_mutation_on_saved_tensors)
"""The same with a cache: transformers writes it in place, and autograd must keep what is overwritten."""
decoding = partial(with_cache, gradient_lengths=LENGTHS[:4])

ORACLES: dict[str, Path] = {
    path.name: path
    for path in (
        oracle(
            name="GraniteMoeHybrid",
            what="each sequence alone",
            logits=of(granite, alone),
            layouts=GRANITE_LAYOUTS,
        ),
        oracle(
            name="GraniteMoeHybrid, sdpa",
            what="the same with PyTorch's fused attention",
            logits=of(partial(granite, attention="sdpa"), alone),
            layouts=HYBRID_LAYOUTS,
        ),
        oracle(
            name="GraniteMoeHybrid, left-padded",
            what="all sequences in one batch, padded on the left",
            logits=of(granite, partial(padded_by, side="left")),
            layouts=HYBRID_LAYOUTS,
        ),
        oracle(
            name="GraniteMoeHybrid, right-padded",
            what="all sequences in one batch, padded on the right",
            logits=of(granite, partial(padded_by, side="right")),
            layouts=HYBRID_LAYOUTS,
        ),
        with_cache(
            name="GraniteMoeHybrid, prompt cut",
            what="its cache carried over cuts after 3, 62, 64, 65 and 250 tokens",
            logits=of(granite, prompt_cut),
            layouts=HYBRID_LAYOUTS,
        ),
        decoding(
            name="GraniteMoeHybrid, decoding",
            what=f"a prompt, then {DECODED_TOKENS} tokens one at a time with its cache",
            logits=of(granite, decoded),
            layouts=HYBRID_LAYOUTS,
        ),
        decoding(
            name="GraniteMoeHybrid, batch decoding",
            what="prompts in one batch, padded on the left, then 8 tokens per row one at a time",
            logits=of(granite, padded_and_decoded),
            layouts=HYBRID_LAYOUTS,
        ),
        oracle(
            name="Mamba2Mixer",
            what="its mixer in the place of ours, each sequence alone",
            logits=on_their_mixers(one_by_one),
        ),
        oracle(
            name="Mamba2Mixer, left-padded",
            what="its mixer in the place of ours, one batch padded on the left",
            logits=on_their_mixers(partial(padded, side="left")),
        ),
        decoding(
            name="Mamba2Mixer, decoding",
            what=f"its mixer in the place of ours, a prompt, then {DECODED_TOKENS} tokens one at a time",
            logits=our_state_on_their_mixers,
        ),
        oracle(
            name="Llama",
            what="each sequence alone",
            logits=of(llama, alone),
            layouts=LLAMA_LAYOUTS,
        ),
        oracle(
            name="Llama, left-padded",
            what="all sequences in one batch, padded on the left",
            logits=of(llama, partial(padded_by, side="left")),
            layouts=LLAMA_LAYOUTS,
        ),
        decoding(
            name="Llama, decoding",
            what=f"a prompt, then {DECODED_TOKENS} tokens one at a time with its cache",
            logits=of(llama, decoded),
            layouts=LLAMA_LAYOUTS,
        ),
    )
}
