"""What executes a model during generation: the seam between the decode loop and PyTorch, ONNX Runtime and others.

Letters: `b` rows, `t` time, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.adapter_choice import Adapted, AdapterChoice
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.quantization import PLANS
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState
from mamba_slm.model.stretch import METHODS, Method


class RuntimeState(Protocol):
    """What a runtime remembers of a batch of sequences, as `mamba_slm.model.state.InferenceState`."""

    num_tokens: Tensor
    """[b] int64: real tokens read by each row."""

    def select(self, rows: Tensor) -> Self:
        """The given rows [r], in the given order, as a new state; a row may appear several times or not at all."""
        ...

    def fork(self, copies: int) -> Self:
        """Each row `copies` times, neighbours together, as a new state."""
        ...

    def snapshot(self) -> Self:
        """A copy that later reading does not touch."""
        ...

    def restore(self, snapshot: Self) -> None:
        """Go back to `snapshot`, which stays usable.

        Raises:
            UsageError: the snapshot has another number of rows.
        """
        ...


State = TypeVar("State", bound=RuntimeState)


class PromptReader(Protocol):
    """What may read prompts in place of a runtime, which it asks for what it cannot know otherwise."""

    def read(self, runtime: Runtime[Any], prompts: Sequence[Sequence[int]], state: Any) -> Tensor | None:
        """Read prompts into a state, one row each; the logits [b v] after each, or None and nothing has changed."""
        ...


class Runtime(Protocol[State]):
    """A model that can be asked for the next token, by whatever means. All runtimes of a model give the same logits."""

    config: ModelConfig
    description: str
    """What runs the model, with its version and device, for the user: "torch 2.13.0, device cpu"."""
    prompt_reader: PromptReader | None
    """Asked first when prompts are to be read; None: the runtime reads them itself."""

    @property
    def device(self) -> torch.device:
        """Where tokens are taken from and logits are put."""
        ...

    def new_state(self, rows: int) -> State:
        """The state of `rows` sequences before their first token."""
        ...

    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: State) -> Tensor:
        """Read one more piece of every row; return the logits [b v], float32, after its last real token.

        Args:
            tokens: [b t] int64.
            padding_mask: [b t] True for real tokens, which stand left of the padding; None: no padding. The logits of
                a row without a real token in this piece mean nothing.
            state: advanced in place.

        Raises:
            ConfigError: longer than the model's context.
        """
        ...


class TorchRuntime:
    """A `LanguageModel`, run by PyTorch as it is."""

    prompt_reader: PromptReader | None = None

    def __init__(self, model: LanguageModel):
        self.model = model
        self.config = model.config
        self.description = f"torch {torch.__version__}, device {self.device}"

    @property
    def device(self) -> torch.device:
        return self.model.embedding.weight.device

    def new_state(self, rows: int) -> InferenceState:
        return self.model.new_state(rows)

    @torch.no_grad()  # not inference_mode: tables that the model caches must stay usable in training
    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: InferenceState) -> Tensor:
        if padding_mask is None:
            return self.model(tokens, state=state, last_only=True)[:, 0]
        hidden = self.model.hidden_states(tokens, padding_mask=padding_mask, state=state)  # [b t d]
        ends = (padding_mask.sum(dim=1) - 1).clamp_min(0)  # [b]
        return self.model.logits(hidden[torch.arange(len(ends), device=ends.device), ends])

    @torch.no_grad()
    def next_hidden(self, tokens: Tensor, state: InferenceState) -> tuple[Tensor, Tensor]:
        """One token of every row [b 1] to logits [b v] and hidden states [b d] after the final norm, in float32."""
        hidden = self.model.hidden_states(tokens, state=state)[:, -1]
        return self.model.logits(hidden), hidden.float()


WEIGHTS = ("float32", "bfloat16", *PLANS)
"""float32 and bfloat16, and the names of quantizations."""


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings:
    """How a model is to be run. A runtime refuses a setting that it cannot follow."""

    device: str = "auto"
    """Of PyTorch: auto, cpu or cuda[:i]."""

    provider: str | None = None
    """Execution provider of ONNX Runtime: cpu, cuda or any other by its name; None is cpu."""

    threads: int | None = None
    """CPU threads; None leaves the choice to the runtime."""

    weights: str | None = None
    """How PyTorch holds matrices, from `WEIGHTS`; None is float32, or for a quantized model as it is stored."""

    context_tokens: int | None = None
    """Longest sequence, where that is more than the model's context; None is the model's."""

    rope_scaling: Method = "ntk"
    """How rotary positions are stretched to `context_tokens`; see `model.stretch.stretched`."""

    adapters: tuple[AdapterChoice, ...] = ()
    """Added to the model's weights while they are read."""

    kernels: bool = False
    """Whether C++ may be compiled for this machine, in seconds and once: kernels, which stay in use for the whole
    process, and for the runtime "auto" the decoding step."""

    say: Callable[[str], None] = lambda message: None
    """Told what takes long, before it begins."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}")
        if self.weights is not None and self.weights not in WEIGHTS:
            raise UnknownNameError("kind of weights", self.weights, WEIGHTS)
        if self.context_tokens is not None and self.context_tokens < 1:
            raise ConfigError(f"context_tokens must be at least 1, got {self.context_tokens}")
        if self.rope_scaling not in METHODS:
            raise UnknownNameError("way to stretch positions", self.rope_scaling, METHODS)


@dataclass(frozen=True)
class Opened:
    """A runtime, and the folder that holds its tokenizer and chat template."""

    runtime: Runtime[Any]
    folder: Path
    """The model folder that the path led to."""
    reason: str
    """Why it runs where it runs, for the user."""
    adapted: Adapted | None = None
    """The base and the adapters, where the model has some: no folder holds its weights."""


def as_runtime(model: LanguageModel | Runtime[Any]) -> Runtime[Any]:
    """A model is run by PyTorch; a runtime stays what it is."""
    return TorchRuntime(model) if isinstance(model, LanguageModel) else model
