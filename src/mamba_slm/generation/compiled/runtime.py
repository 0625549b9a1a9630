"""PyTorch with a compiled decoding step: everything but single tokens is run as `TorchRuntime` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, SetupError
from mamba_slm.core.tested import has_passed, keep_passed, sources_digest
from mamba_slm.generation.compiled.after import StatesAfter
from mamba_slm.generation.compiled.step import CompiledStep
from mamba_slm.generation.loading import open_torch
from mamba_slm.generation.runtime import Opened, RuntimeSettings, TorchRuntime
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.pattern import plugin_letters_in
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState, MambaState
from mamba_slm.ops.native.library import library, library_path

SELF_TEST_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of a logit, relative to the largest logit, between the compiled and the plain step."""

ROUNDING_TOLERANCE = 0.2
"""The same where products round their inputs to 8 bits: the plain step rounds bfloat16, the compiled one float32, and
5e-2 was measured on a model of random weights."""

COMPILED = Path(__file__).parent
PACKAGE = COMPILED.parents[1]

MOST_ROWS = 128
"""Larger batches are worth a library's matrix products."""


class CompiledRuntime(TorchRuntime):
    """A `LanguageModel` whose single tokens, of up to `MOST_ROWS` rows at once, go through `CompiledStep`.

    On a CPU a token costs the reading of the weights, which the step does once for all rows. Prompts, and steps with
    padding or with a history that lets tokens be taken back, go the plain way.
    """

    def __init__(self, model: LanguageModel, *, say: Callable[[str], None] = lambda line: None):
        """Compile the step where this machine has not done so yet, then compare a few tokens with the plain step.

        What passed is not repeated for models of the same shapes until a source changes (`core/tested.py`).

        Args:
            say: told before a compilation.

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
        if letters := plugin_letters_in(model.config.pattern):
            raise SetupError(
                f"the compiled step has no formula for the sublayer {', '.join(letters)} of a plugin",
                hint="use --runtime torch",
            )
        if not library_path("decode_step").is_file():
            say("compiling the decoding step, once for this machine")
        library("decode_step")
        self.description = f"torch {torch.__version__}, device cpu, compiled step"
        self._step = CompiledStep(model)
        if isinstance(model, PackedModel):
            self.self_test()
        elif not has_passed(*(depends_on := what_the_test_depends_on(model))):
            self.self_test()
            keep_passed(*depends_on)

    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: InferenceState) -> Tensor:
        b, t = tokens.shape
        if t != 1 or b > MOST_ROWS or padding_mask is not None or has_history(state):
            return super().next_logits(tokens, padding_mask, state)
        return self.step(tokens, state)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: InferenceState) -> Tensor:
        """One token of every row [b 1] to logits [b v]; advances `state` in place.

        Raises:
            ConfigError: beyond the model's context.
        """
        self.model.require_room(1, state)
        return self._step(tokens, state)

    @torch.no_grad()
    def next_hidden(self, tokens: Tensor, state: InferenceState) -> tuple[Tensor, Tensor]:
        if len(tokens) > MOST_ROWS or has_history(state):
            return super().next_hidden(tokens, state)
        self.model.require_room(1, state)
        residuals = torch.empty(len(tokens), self.config.hidden_size)
        logits = self._step(tokens, state, hidden=residuals)
        return logits, self.model.final_norm(residuals).float()

    @torch.no_grad()
    def read_sequence(self, tokens: Tensor, state: InferenceState, after: StatesAfter) -> Tensor:
        """Successive tokens [t] of one row to logits [t v]; see `CompiledStep.sequence`.

        Raises:
            ConfigError: beyond the model's context.
        """
        self.model.require_room(len(tokens), state)
        return self._step.sequence(tokens, state, after)

    @property
    def compiled_step(self) -> CompiledStep:
        """For those who have memory of their own for states (`CompiledStep.in_blocks`)."""
        return self._step

    def self_test(self) -> None:
        """Read a few tokens of two rows the compiled and the plain way.

        Raises:
            CheckFailedError: the logits differ.
        """
        dtype = self.model.embedding.weight.dtype
        tolerance = ROUNDING_TOLERANCE if rounds(self.model) else SELF_TEST_TOLERANCE[dtype]
        plain, compiled = self.new_state(2), self.new_state(2)
        for number in range(3):
            tokens = torch.tensor([[number % self.config.vocab_size], [(7 * number + 1) % self.config.vocab_size]])
            expected, found = super().next_logits(tokens, None, plain), self.step(tokens, compiled)
            error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            if not error <= tolerance:
                raise CheckFailedError(
                    f"the compiled step gives other logits than the plain one: {error:.1e} of the largest",
                    hint="use --runtime torch, and report this with the output of `mamba-slm doctor`",
                )


def rounds(model: LanguageModel) -> bool:
    """Whether products round their inputs to 8 bits: then the last bit of a float32 may decide about a whole step."""
    return isinstance(model, PackedModel) and any(w.activations == "int8" for w in model.packed_weights())


def what_the_test_depends_on(model: LanguageModel) -> tuple[object, ...]:
    """Everything but the values of the weights that decides whether the compiled step of a model is right."""
    tensors = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()]
    sources = sources_digest(PACKAGE / "ops", PACKAGE / "model", COMPILED)
    machine = (library_path("decode_step").name, torch.__version__, torch.get_num_threads())
    return (sources, machine, model.config, tensors)


def has_history(state: InferenceState) -> bool:
    """Whether somebody wants to take tokens back, which needs the inputs of every token."""
    return any(isinstance(layer, MambaState) and layer.history is not None for layer in state.layers)


def open_compiled(path: Path, settings: RuntimeSettings) -> Opened:
    """As `open_torch`, with a compiled decoding step; the first time on a machine this takes a few seconds.

    Raises:
        CheckpointError: no model there, or a damaged one.
        SetupError: not a CPU, or no compiler.
    """
    opened = open_torch(path, settings)
    assert isinstance(opened.runtime, TorchRuntime)
    return replace(opened, runtime=CompiledRuntime(opened.runtime.model, say=settings.say))
