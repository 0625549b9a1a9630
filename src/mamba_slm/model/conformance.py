"""Does the sublayer of a plugin keep the promise of all sublayers: the same outputs and gradients, however it is read?

    for finding in examine_sublayer("R"):
        print(finding)

A small model with the letter beside ours is read whole, and then in every other way; all must agree. What the plugin
says about itself (parameters, matrices, state, memory) is compared with what it does. A plugin's own tests call
`require_conforming`. Letters: b batch, t time, v vocabulary.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.model.checkpoint import KEPT_IN_FLOAT32, load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, state_bytes
from mamba_slm.model.init import build_model
from mamba_slm.model.plugin_mixer import PluginMixer
from mamba_slm.model.projection import Projection
from mamba_slm.model.stack import LanguageModel, Sublayer
from mamba_slm.model.state import InferenceState, PluginState
from mamba_slm.model.sublayer_plugin import MATRIX_NAMES, plugins_of

LENGTHS = (37, 5, 23)
"""Tokens of the three texts; none a multiple of another's."""
CUTS = (1, 2, 19, 20)
OUTPUT_TOLERANCE = 1e-4
"""Of the largest logit; float32."""
GRADIENT_TOLERANCE = 1e-3
"""Of the largest gradient of a parameter."""
SAVED_TOLERANCE = 0.25
"""By how much the memory that a plugin states may differ from what autograd saves."""
VOCABULARY = 32


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One promise, and how it was kept."""

    promise: str
    error: float
    """Largest difference, relative to the largest value; 0 or 1 for a promise that holds or does not."""
    tolerance: float
    reason: str = ""
    """What is wrong, where the numbers do not say it."""

    @property
    def is_kept(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        mark = "ok    " if self.is_kept else "BROKEN"
        numbers = f"{self.error:.1e} of at most {self.tolerance:g}" if self.tolerance else "exact"
        why = f" ({self.reason})" if self.reason and not self.is_kept else ""
        return f"{mark} {self.promise}: {numbers}{why}"


def small_config(letter: str, settings: Mapping[str, Any] | None = None) -> ModelConfig:
    """A model of the letter twice, with each of ours between."""
    return ModelConfig(
        pattern=f"{letter}-M*{letter}",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_heads=4,
        num_kv_heads=2,
        feed_forward_size=48,
        state_size=8,
        ssm_head_dim=8,
        chunk_size=8,
        max_context_tokens=128,
        sublayer_settings={letter: settings or {}},
    )


def require_conforming(letter: str, settings: Mapping[str, Any] | None = None) -> None:
    """Raise CheckFailedError with every promise that is broken, or return.

    Args:
        letter: of an installed plugin.
        settings: of its sublayer; the defaults otherwise.
    """
    broken = [str(finding) for finding in examine_sublayer(letter, settings) if not finding.is_kept]
    if broken:
        raise CheckFailedError(f"the sublayer {letter} breaks what it promises:\n" + "\n".join(broken))


def examine_sublayer(letter: str, settings: Mapping[str, Any] | None = None) -> list[Finding]:
    """Every promise of a letter, in a few seconds on a CPU; what raises an error is a broken promise.

    Raises:
        UnknownNameError, PluginError, ConfigError: no such letter, it does not load, or the settings are wrong.
    """
    config = small_config(letter, settings)
    model = build_model(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    texts = [torch.randint(VOCABULARY, (1, length), generator=generator) for length in LENGTHS]
    kit = Kit(model, texts)
    promises: dict[str, Callable[[], Finding]] = {
        "parameters are counted exactly": kit.parameters,
        "matrices are the ones that it lists": kit.matrices,
        "what must not be rounded stays float32": kit.precision,
        "the state is the one that it describes": kit.state,
        "the same seed gives the same weights, all finite": kit.initialisation,
        "later tokens change nothing before them": kit.causality,
        "every parameter gets a gradient": kit.all_gradients,
        "read in pieces": kit.pieces,
        "read one token at a time": kit.single_tokens,
        "padded on the left": lambda: kit.padded(left=True),
        "padded on the right": lambda: kit.padded(left=False),
        "padded, then continued": kit.continued_after_padding,
        "packed into one row": kit.packed,
        "gradients padded": kit.padded_gradients,
        "gradients packed": kit.packed_gradients,
        "gradients with checkpointing": kit.recomputed_gradients,
        "a snapshot that is restored": kit.restored,
        "rows that are forked and selected": kit.forked,
        "only the last position": kit.last_only,
        "stored and loaded": kit.round_trip,
        "what autograd keeps": kit.saved,
    }
    return [tried(promise, find) for promise, find in promises.items()]


def tried(promise: str, find: Callable[[], Finding]) -> Finding:
    """The finding of one promise under its name; an error is one, too."""
    try:
        found = find()
        return Finding(promise=promise, error=found.error, tolerance=found.tolerance, reason=found.reason)
    except Exception as error:  # a plugin may raise anything
        return Finding(promise=promise, error=math.inf, tolerance=0.0, reason=f"{type(error).__name__}: {error}")


def exact(reason: str) -> Finding:
    """Kept where there is nothing to say."""
    return Finding(promise="", error=float(bool(reason)), tolerance=0.0, reason=reason)


def close(found: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float = OUTPUT_TOLERANCE) -> Finding:
    """The largest difference of tensors, relative to the largest value of all."""
    scale = max(float(one.abs().max()) for one in wanted)
    error = max(float((one - other).abs().max()) for one, other in zip(found, wanted, strict=True))
    return Finding(promise="", error=error / max(scale, 1e-30), tolerance=tolerance)


class Kit:
    """A model, three texts, and what it computes for each of them alone and whole."""

    def __init__(self, model: LanguageModel, texts: list[Tensor]):
        self.model, self.texts, self.config = model, texts, model.config
        with torch.no_grad():
            self.logits = [model(text)[0] for text in texts]

    def mixers(self) -> Iterator[PluginMixer]:
        """The plugin's, in their order."""
        for sublayer in self.model.sublayers:
            assert isinstance(sublayer, Sublayer)
            if isinstance(sublayer.mixer, PluginMixer):
                yield sublayer.mixer

    def parameters(self) -> Finding:
        """`count_parameters` knows the model."""
        counted, there = count_parameters(self.config).total, sum(p.numel() for p in self.model.parameters())
        return exact("" if counted == there else f"{counted:,} counted, {there:,} there")

    def matrices(self) -> Finding:
        """Names, shapes and types of the matrices."""
        for mixer in self.mixers():
            plugin, settings = plugins_of(self.config)[self.config.pattern[0]]
            listed = {name: tuple(shape) for name, shape in plugin.matrices(self.config, settings).items()}
            there = {name: tuple(m.weight.shape) for name, m in mixer.named_modules() if isinstance(m, Projection)}
            if listed != there:
                return exact(f"listed {listed}, there are {there}")
            if unknown := sorted(listed.keys() - set(MATRIX_NAMES)):
                return exact(f"{unknown[0]} is not among {', '.join(MATRIX_NAMES)}")
            if plugin.first_projection not in listed:
                return exact(f"first_projection {plugin.first_projection!r} is not among {', '.join(listed)}")
        return exact("")

    def precision(self) -> Finding:
        """bf16 keeps what must be kept, in memory and in files, and gives finite logits."""
        for mixer in self.mixers():
            for name in mixer.kept_float32:
                if not name.endswith(KEPT_IN_FLOAT32):
                    return exact(
                        f"{name} would be rounded by a checkpoint: call it one of {', '.join(KEPT_IN_FLOAT32)}"
                    )
        half = build_model(self.config, seed=1).to(torch.bfloat16)
        with torch.no_grad():
            logits = half(self.texts[0])
        return exact("" if bool(logits.isfinite().all()) else "logits of a bf16 model are not finite")

    def state(self) -> Finding:
        """Names, shapes and dtypes stay what they were, and their bytes are the counted ones."""
        state = self.model.new_state(1)
        before = described_state(state)
        with torch.no_grad():
            self.model(self.texts[0], state=state)
            self.model(self.texts[1][:, :1], state=state)
        after = described_state(state)
        if before != after:
            return exact(f"before the first call {before}, then {after}")
        one = ModelConfig(**{**self.config.stored(), "pattern": self.config.pattern[0]})
        counted = state_bytes(one, 100, cache_bytes=4)
        layers = InferenceState.empty(one, 1, device=torch.device("cpu"), dtype=torch.float32).layers
        there = sum(t.nbytes for layer in layers if isinstance(layer, PluginState) for t in layer.tensors.values())
        return exact("" if counted == there else f"{counted} bytes counted, {there} there")

    def initialisation(self) -> Finding:
        """Every parameter is set, from the seed alone."""
        again = build_model(self.config, seed=1).state_dict()
        for name, tensor in self.model.state_dict().items():
            if not bool(tensor.isfinite().all()):
                return exact(f"{name} is not finite")
            if not tensor.equal(again[name]):
                return exact(f"{name} differs with the same seed")
        return exact("")

    @torch.no_grad()
    def causality(self) -> Finding:
        """A changed last token changes the last logits only, to the last bit before it."""
        changed = self.texts[0].clone()
        changed[0, -1] = (changed[0, -1] + 1) % VOCABULARY
        found = self.model(changed)[0]
        if found[-1].equal(self.logits[0][-1]):
            return exact("the last token changes nothing at all")
        return close([found[:-1]], [self.logits[0][:-1]], 1e-6)

    def all_gradients(self) -> Finding:
        """No parameter is idle."""
        for name, gradient in self.gradients(self.loss_alone).items():
            if not bool(gradient.any()):
                return exact(f"{name} has no gradient")
        return exact("")

    @torch.no_grad()
    def pieces(self) -> Finding:
        """Cut anywhere, the state carried on."""
        return close([self.read_in(self.texts[0], CUTS)], [self.logits[0]])

    @torch.no_grad()
    def single_tokens(self) -> Finding:
        """As decoding reads."""
        return close([self.read_in(self.texts[0], range(1, LENGTHS[0]))], [self.logits[0]])

    def read_in(self, text: Tensor, cuts: Sequence[int]) -> Tensor:
        """Logits [t v] of a text read in pieces."""
        state, places = self.model.new_state(1), [0, *cuts, text.shape[1]]
        parts = [self.model(text[:, a:b], state=state)[0] for a, b in itertools.pairwise(places)]
        return torch.cat(parts)

    def batch(self, *, left: bool) -> tuple[Tensor, Tensor]:
        """All texts in one padded batch, tokens and mask [b t]; padding holds a token that is no zero."""
        longest = max(LENGTHS)
        tokens = torch.full((len(self.texts), longest), VOCABULARY - 1)
        mask = torch.zeros(len(self.texts), longest, dtype=torch.bool)
        for row, text in enumerate(self.texts):
            place = slice(longest - text.shape[1], None) if left else slice(0, text.shape[1])
            tokens[row, place], mask[row, place] = text[0], True
        return tokens, mask

    @torch.no_grad()
    def padded(self, *, left: bool) -> Finding:
        """Rows of different lengths."""
        tokens, mask = self.batch(left=left)
        found = self.model(tokens, padding_mask=mask)
        return close([found[row, mask[row]] for row in range(len(tokens))], self.logits)

    @torch.no_grad()
    def continued_after_padding(self) -> Finding:
        """A padded prompt, then the rest of every text from the state."""
        longest = max(LENGTHS)
        found, wanted = [], []
        for left in (True, False):
            state, (tokens, mask) = self.model.new_state(len(self.texts)), self.batch(left=left)
            self.model(tokens, padding_mask=mask, state=state)
            more = torch.randint(VOCABULARY, (len(self.texts), 3), generator=torch.Generator().manual_seed(longest))
            found.append(self.model(more, state=state))
            wanted += [
                self.model(torch.cat([text, more[row : row + 1]], dim=1))[:, -3:] for row, text in enumerate(self.texts)
            ]
        return close([torch.cat(found)], [torch.cat(wanted)])

    def packed_row(self) -> tuple[Tensor, Tensor]:
        """All texts in one row, tokens and document ids [1 t]."""
        ids = [torch.full_like(text, number) for number, text in enumerate(self.texts)]
        return torch.cat(self.texts, dim=1), torch.cat(ids, dim=1)

    @torch.no_grad()
    def packed(self) -> Finding:
        """Neighbours in a row see nothing of each other."""
        tokens, ids = self.packed_row()
        return close([self.model(tokens, document_ids=ids)[0]], [torch.cat(self.logits)])

    def gradients(self, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Of a loss, by parameter."""
        self.model.zero_grad(set_to_none=True)
        loss().backward()
        found = {name: p.grad for name, p in self.model.named_parameters()}
        self.model.zero_grad(set_to_none=True)
        return {name: torch.zeros(1) if gradient is None else gradient for name, gradient in found.items()}

    def loss_alone(self) -> Tensor:
        """Sum over the texts, each read by itself."""
        return torch.stack([self.weighted(self.model(text)[0]) for text in self.texts]).sum()

    def weighted(self, logits: Tensor) -> Tensor:
        """A number that depends on all logits [t v] and on their order."""
        weights = torch.linspace(0.5, 1.5, VOCABULARY).roll(logits.shape[0])
        return (logits.log_softmax(dim=-1) * weights).mean(dim=-1).square().sum()

    def compared(self, loss: Callable[[], Tensor]) -> Finding:
        """Gradients of `loss` beside those of the texts alone; the worst parameter is named."""
        wanted, found = self.gradients(self.loss_alone), self.gradients(loss)
        worst, name = max((close([found[n]], [wanted[n]], GRADIENT_TOLERANCE).error, n) for n in wanted)
        return Finding(promise="", error=worst, tolerance=GRADIENT_TOLERANCE, reason=name)

    def padded_gradients(self) -> Finding:
        """Of a padded batch."""
        tokens, mask = self.batch(left=True)

        def loss() -> Tensor:
            logits = self.model(tokens, padding_mask=mask)
            return torch.stack([self.weighted(logits[row, mask[row]]) for row in range(len(tokens))]).sum()

        return self.compared(loss)

    def packed_gradients(self) -> Finding:
        """Of a packed row."""
        tokens, ids = self.packed_row()

        def loss() -> Tensor:
            parts = self.model(tokens, document_ids=ids)[0].split(list(LENGTHS))
            return torch.stack([self.weighted(part) for part in parts]).sum()

        return self.compared(loss)

    def recomputed_gradients(self) -> Finding:
        """With sublayers computed again in the backward pass."""
        self.model.gradient_checkpointing = False

        def loss() -> Tensor:
            self.model.gradient_checkpointing = True
            try:
                return self.loss_alone()
            finally:
                self.model.gradient_checkpointing = False

        return self.compared(loss)

    @torch.no_grad()
    def restored(self) -> Finding:
        """Back to a snapshot, the same tokens give the same bits, and the snapshot stays usable."""
        state, text = self.model.new_state(1), self.texts[0]
        self.model(text[:, :19], state=state)
        snapshot = state.snapshot()
        first = self.model(text[:, 19:], state=state)
        again = []
        for _ in range(2):
            state.restore(snapshot)
            again.append(self.model(text[:, 19:], state=state))
        return close(again, [first, first], 0.0)

    @torch.no_grad()
    def forked(self) -> Finding:
        """Copies of a row continue as the row does."""
        state = self.model.new_state(1)
        self.model(self.texts[0][:, :20], state=state)
        rows = state.fork(2).select(torch.tensor([1, 0, 1]))
        found = self.model(self.texts[0][:, 20:].expand(3, -1), state=rows)
        return close([found], [self.logits[0][20:].expand(3, -1, -1)])

    @torch.no_grad()
    def last_only(self) -> Finding:
        """As a prompt is read."""
        found = [self.model(text, last_only=True)[0, -1] for text in self.texts]
        return close(found, [logits[-1] for logits in self.logits])

    @torch.no_grad()
    def round_trip(self) -> Finding:
        """Through a model folder, to the last bit."""
        with tempfile.TemporaryDirectory() as folder:
            save_model(self.model, Path(folder))
            loaded = load_model(folder)
        return close([loaded(text)[0] for text in self.texts], self.logits, 0.0)

    def saved(self) -> Finding:
        """Numbers per token that one sublayer keeps, beside `saved_values`."""
        letter = self.config.pattern[0]
        plugin, settings = plugins_of(self.config)[letter]
        stated = plugin.saved_values(self.config, settings)
        measured = saved_values_measured(self.model)
        text = f"saved_values says {stated:.0f} numbers per token, {measured:.0f} are kept"
        return Finding(promise="", error=abs(stated / measured - 1), tolerance=SAVED_TOLERANCE, reason=text)


def described_state(state: InferenceState) -> list[dict[str, tuple[tuple[int, ...], torch.dtype]]]:
    """Names, shapes and dtypes of what plugins' sublayers remember."""
    layers = [layer for layer in state.layers if isinstance(layer, PluginState)]
    return [{name: (tuple(t.shape), t.dtype) for name, t in layer.tensors.items()} for layer in layers]


def saved_values_measured(model: LanguageModel, *, tokens: int = 64) -> float:
    """Float32 numbers per token that autograd keeps for the first sublayer: each storage once, weights left out."""
    sublayer = model.sublayers[0]
    assert isinstance(sublayer, Sublayer)
    weights = {parameter.untyped_storage().data_ptr() for parameter in sublayer.parameters()}
    from mamba_slm.model.context import prepare

    context = prepare((1, tokens), torch.device("cpu"), document_ids=None, padding_mask=None, state=None)
    h = torch.randn(1, tokens, model.config.hidden_size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and storage.data_ptr() != h.untyped_storage().data_ptr():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        after = sublayer(h, context, None)
    del after
    return sum(kept.values()) / 4 / tokens
