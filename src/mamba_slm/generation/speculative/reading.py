"""Reading several tokens at once with a way back: logits after each of them, then as many are kept as were right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.compiled.after import StatesAfter
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import Runtime, TorchRuntime
from mamba_slm.model.rollback import forget, remember, roll_back
from mamba_slm.model.state import InferenceState


class Reader(Protocol):
    """Reads one row. Every `read` is followed by one `keep`."""

    def read(self, tokens: Sequence[int], state: InferenceState) -> Tensor:
        """Logits [t v] after each token."""
        ...

    def keep(self, state: InferenceState, count: int) -> None:
        """Let the state have read the first `count` of the tokens, at least one, and no more."""
        ...

    def close(self, state: InferenceState) -> None:
        """Let go of what the state does not need by itself."""
        ...


class TorchReader:
    """A piece with a history: taking tokens back reads those that stay again, without the model's matrices."""

    def __init__(self, runtime: TorchRuntime):
        self._runtime = runtime
        self._count = 0

    @torch.no_grad()
    def read(self, tokens: Sequence[int], state: InferenceState) -> Tensor:
        self._count = len(tokens)
        piece = torch.tensor([list(tokens)], device=self._runtime.device)
        if self._count == 1:
            return self._runtime.next_logits(piece, None, state)
        state.reserve(self._count)  # while it remembers, it drops nothing that a window has left behind
        remember(state)
        return self._runtime.model(piece, state=state)[0]

    def keep(self, state: InferenceState, count: int) -> None:
        assert 1 <= count <= self._count
        if self._count > 1:
            roll_back(self._runtime.model, state, self._count - count, forget=True)
            forget(state)

    def close(self, state: InferenceState) -> None:
        pass


class CompiledReader:
    """One compiled step for all tokens, which leaves the states after each of them side by side."""

    def __init__(self, runtime: CompiledRuntime, most: int):
        self._runtime = runtime
        self._after = StatesAfter(most)
        self._is_single = False

    def read(self, tokens: Sequence[int], state: InferenceState) -> Tensor:
        self._is_single = len(tokens) == 1
        if self._is_single:
            return self._runtime.next_logits(torch.tensor([list(tokens)]), None, state)
        return self._runtime.read_sequence(torch.tensor(list(tokens)), state, self._after)

    def keep(self, state: InferenceState, count: int) -> None:
        if not self._is_single:
            self._after.keep(state, count)

    def close(self, state: InferenceState) -> None:
        self._after.release(state)


def reader_of(runtime: Runtime[Any], most: int) -> Reader:
    """A reader of up to `most` tokens at once.

    Raises:
        ConfigError: a runtime that cannot take tokens back.
    """
    if isinstance(runtime, CompiledRuntime):
        return CompiledReader(runtime, most)
    if isinstance(runtime, TorchRuntime):
        return TorchReader(runtime)
    raise ConfigError(
        f"guessed tokens must be taken back where they were wrong, which {runtime.description} cannot",
        hint="use --runtime compiled or torch, or leave --draft and --prompt-lookup out",
    )
