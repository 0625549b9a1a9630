"""PyTorch with a compiled decoding step: everything but single tokens of one sequence is run as `TorchRuntime` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, SetupError
from mamba_slm.generation.compiled.packages import Compiled, open_package
from mamba_slm.generation.compiled.regions import Region, regions_of, weights_of
from mamba_slm.generation.loading import open_torch
from mamba_slm.generation.runtime import Opened, RuntimeSettings, TorchRuntime
from mamba_slm.model.attention import attention_terms, rotary_tables
from mamba_slm.model.context import CallContext, advance, prepare
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState, KeyValueState, MambaState
from mamba_slm.ops.attention import attention

SELF_TEST_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of a logit, relative to the largest logit, between the compiled and the plain step."""


NAMES = {
    "q": "attention, before the cache",
    "o": "attention, behind the cache",
    "M": "a Mamba-2 layer",
    "-": "a feed-forward layer",
    "h": "the head",
}
"""Of a region, by its first letter."""


class CompiledRuntime(TorchRuntime):
    """A `LanguageModel` whose single tokens go through compiled regions.

    On a CPU one row costs the reading of the weights; the plain step cannot overlap this reading with the hundred small
    operations between the products, a compiled one fuses them into it. Other batches take the plain way.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        on_compile: Callable[[str], None] = lambda letters: None,
        open_region: Callable[..., Compiled] = open_package,
    ):
        """Load, or compile, the regions of `model`, then compare a few tokens with the plain step.

        Args:
            on_compile: told the letters of each region that must be compiled first.
            open_region: as `open_package`: gives what computes a region, for arguments like those given.

        Raises:
            SetupError: the model is not on a CPU or in float16, or there is no compiler.
            CheckFailedError: the compiled step gives other logits than the plain one.
        """
        super().__init__(model)
        dtype = model.embedding.weight.dtype
        if self.device.type != "cpu" or dtype not in SELF_TEST_TOLERANCE:
            raise SetupError(
                f"the compiled runtime runs float32 and bfloat16 models on a CPU, this one is {dtype} on {self.device}",
                hint="use --runtime torch",
            )
        self.description = f"torch {torch.__version__}, device cpu, compiled step"
        self._letters = regions_of(self.config.pattern)
        self._weights = weights_of(model)
        self._regions = self._open(open_region, on_compile)
        self.self_test()

    def _open(self, open_region: Callable[..., Compiled], on_compile: Callable[[str], None]) -> list[Compiled]:
        """One compiled region per place; equal places share one."""
        opened: dict[tuple[object, ...], Compiled] = {}
        found = []
        tensors = self._example_tensors()
        for letters, arguments in zip(self._letters, tensors, strict=True):
            key = (letters, *((tensor.shape, tensor.dtype) for tensor in arguments))
            if key not in opened:
                opened[key] = open_region(Region(letters, self.config), arguments, on_compile=on_compile)
            found.append(opened[key])
        return found

    def _example_tensors(self) -> list[list[Tensor]]:
        """Arguments of every region, of the right shapes."""
        state, found = self.new_state(1), []
        states = iter(layer for layer in state.layers if isinstance(layer, MambaState))
        h = torch.zeros(1, self.config.hidden_size)
        for letters, weights in zip(self._letters, self._weights, strict=True):
            leading: list[Tensor] = []
            if letters[0] == "M":
                layer = next(states)
                leading = [layer.window, layer.ssm]
            elif letters[0] == "q" and self.config.position == "rope":
                leading = list(rotary_tables(self.config, torch.zeros(1, 1, dtype=torch.int64)))
            elif letters[0] == "o":
                leading = [torch.zeros(1, self.config.num_heads * self.config.head_dim)]
            found.append([h, *leading, *weights])
        return found

    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: InferenceState) -> Tensor:
        if tokens.shape != (1, 1) or padding_mask is not None or has_history(state):
            return super().next_logits(tokens, padding_mask, state)
        return self.step(tokens, state)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: InferenceState) -> Tensor:
        """One token [1 1] of one sequence to its logits [1 v]; advances `state` in place."""
        context = prepare((1, 1), self.device, document_ids=None, padding_mask=None, state=state)
        self.model.require_room(1, state)
        rotary: tuple[Tensor, ...] = ()
        if self.config.position == "rope" and self.config.num_attention:
            rotary = rotary_tables(self.config, context.positions)
        h = self.model.embedding(tokens[0]).float()
        if self.model.position_embedding is not None:
            h = h + self.model.position_embedding(context.positions[0]).float()
        layers = iter(layer for layer in state.layers if layer is not None)
        attended: Tensor | None = None
        for letters, region, weights in zip(self._letters, self._regions, self._weights, strict=True):
            if letters == "q":
                q, k, v = region(h, *rotary, *weights)
                attended = self.attend(q, k, v, context, next(layers))  # type: ignore[arg-type]
            elif letters[0] == "o":
                h = region(h, attended, *weights)
            elif letters[0] == "M":
                layer = next(layers)
                assert isinstance(layer, MambaState)
                h = region(h, layer.window, layer.ssm, *weights)
            else:
                h = region(h, *weights)
        advance(state, context)
        assert isinstance(h, Tensor)
        return h  # of the last region, the head

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: CallContext, state: KeyValueState) -> Tensor:
        """Append key and value [1 kv p] to the cache; the query [1 h p] over all of it, as [1 h*p] float32."""
        keys, values = state.append(k[None], v[None], context.length_before)
        mask, bias = attention_terms(self.config, context)
        return attention(q[None].to(keys.dtype), keys, values, mask=mask, bias=bias).reshape(1, -1).float()

    def self_test(self) -> None:
        """Read a few tokens the compiled and the plain way.

        Raises:
            CheckFailedError: the logits differ.
        """
        plain, compiled = self.new_state(1), self.new_state(1)
        for number in range(3):
            tokens = torch.tensor([[number % self.config.vocab_size]])
            expected, found = super().next_logits(tokens, None, plain), self.step(tokens, compiled)
            error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            if not error <= SELF_TEST_TOLERANCE[self.model.embedding.weight.dtype]:
                raise CheckFailedError(
                    f"the compiled step gives other logits than the plain one: {error:.1e} of the largest",
                    hint="use --runtime torch, and report this with the output of `mamba-slm doctor`",
                )


def has_history(state: InferenceState) -> bool:
    """Whether somebody wants to take tokens back, which needs the inputs of every token."""
    return any(isinstance(layer, MambaState) and layer.history is not None for layer in state.layers)


def open_compiled(path: Path, settings: RuntimeSettings) -> Opened:
    """As `open_torch`, with a compiled decoding step; the first time on a machine this takes half a minute.

    Raises:
        CheckpointError: no model there, or a damaged one.
        SetupError: not a CPU, or no compiler.
    """
    opened = open_torch(path, settings)
    assert isinstance(opened.runtime, TorchRuntime)

    def announce(letters: str) -> None:
        settings.say(f"compiling the decoding step of {NAMES[letters[0]]}, once for this machine and size of model")

    return Opened(CompiledRuntime(opened.runtime.model, on_compile=announce), opened.folder, opened.reason)
