"""What computes for the engine: pieces of prompts, or one token of many sequences, in the memory of a pool."""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Sequence as Rows
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from mamba_slm.generation.compiled.deltas import Deltas
from mamba_slm.generation.compiled.runtime import MOST_ROWS, CompiledRuntime
from mamba_slm.generation.compiled.step import CompiledStep
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.stack import LanguageModel
from mamba_slm.serving.memory.gathered import Gathered
from mamba_slm.serving.memory.pool import Pool, Sequence
from mamba_slm.serving.memory.ragged import Ragged


@dataclass(frozen=True, kw_only=True)
class ReadPiece:
    """What one sequence reads in a call; it has the blocks for that."""

    sequence: Sequence
    tokens: Rows[int]
    """At least one."""
    keep_after: Rows[int] = ()
    """Counts of the tokens, ascending, less than all: the states after them are wanted, too."""
    all_logits: bool = False
    """Whether the logits after every token are wanted, as for checking guesses, and not only those after the last."""


@dataclass(frozen=True)
class Read:
    """What a piece left besides the state."""

    logits: Tensor
    """[v] after the piece, or [t v] after each token of one with `all_logits`; float32."""
    states: list[list[tuple[Tensor, Tensor]]]
    """For each wanted place the windows [w c] and SSM states [h p n] of the Mamba layers."""


class Executor(Protocol):
    """A model over a pool. The sequences that it is given have the blocks for what they read."""

    config: ModelConfig
    description: str

    def read(self, pieces: Rows[ReadPiece]) -> list[Read]:
        """Pieces of different sequences in one call; afterwards each sequence has read its tokens."""
        ...

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        """One token of every sequence; the logits [b v] after them, float32."""
        ...


class TorchExecutor:
    """A `LanguageModel`, quantized ones included, run by PyTorch as it is."""

    def __init__(self, model: LanguageModel, pool: Pool, *, is_batch_invariant: bool = False):
        """
        Args:
            is_batch_invariant: run every sequence by itself, so that its logits do not depend on the others by a bit.
        """
        self.model, self.pool, self.config = model, pool, model.config
        self.description = f"torch {torch.__version__}, device {pool.device}"
        self._is_batch_invariant = is_batch_invariant
        self.rows_use: Callable[[Rows[str]], AbstractContextManager[None]] = lambda adapters: nullcontext()
        """Told before a call of the model which adapter each of its rows uses (`Sequence.adapter`)."""
        self.takes: Callable[[str], bool] = lambda adapter: not adapter
        """Whether it can run sequences with this adapter; the empty one is the base."""

    def with_model(self, model: LanguageModel) -> Self:
        """The same for another model of the same shapes, over the same pool."""
        other = copy.copy(self)
        other.model = model
        return other

    def read(self, pieces: Rows[ReadPiece]) -> list[Read]:
        call = Ragged(
            self.model,
            self.pool,
            [(piece.sequence, piece.tokens) for piece in pieces],
            cuts=[piece.keep_after for piece in pieces],
            all_logits=[piece.all_logits for piece in pieces],
            rows_use=self.rows_use,
        )
        logits = call.logits()
        return [Read(one, part.kept) for one, part in zip(logits, call.parts, strict=True)]

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        if self._is_batch_invariant:
            return torch.cat([self._run([one], [[token]]) for one, token in zip(sequences, tokens, strict=True)])
        return self._run(sequences, [[token] for token in tokens])

    @torch.no_grad()
    def _run(self, sequences: Rows[Sequence], tokens: Rows[Rows[int]]) -> Tensor:
        """Tokens [b t] of every sequence to the logits [b v] after the last."""
        gathered = Gathered(self.pool, sequences, len(tokens[0]))
        given = torch.tensor(tokens, device=self.pool.device)
        with self.rows_use([sequence.adapter for sequence in sequences]):
            logits = self.model(given, state=gathered.state, last_only=True)[:, 0]
        gathered.put_back()
        return logits


class CompiledExecutor(TorchExecutor):
    """Tokens go through the compiled step, which reads and writes the pool in place; prompts as by `TorchExecutor`."""

    def __init__(self, runtime: CompiledRuntime, pool: Pool, *, is_batch_invariant: bool = False):
        super().__init__(runtime.model, pool, is_batch_invariant=is_batch_invariant)
        self.description = runtime.description
        self.compiled_step = runtime.compiled_step
        self.deltas_use: Callable[[Rows[str]], tuple[Deltas, Tensor] | None] = lambda adapters: None
        """What `rows_use` is for PyTorch: the changes of adapters, and [b] which of them each row uses."""

    def with_model(self, model: LanguageModel) -> Self:
        other = super().with_model(model)
        other.compiled_step = CompiledStep(model)
        return other

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        if len(sequences) > MOST_ROWS:
            halves = (slice(0, MOST_ROWS), slice(MOST_ROWS, None))
            return torch.cat([self.step(sequences[half], tokens[half]) for half in halves])
        most = max(len(sequence.blocks) for sequence in sequences)
        deltas, adapters = self.deltas_use([sequence.adapter for sequence in sequences]) or (None, None)
        logits = self.compiled_step.in_blocks(
            torch.tensor(tokens),
            self.pool.layers,
            num_tokens=torch.tensor([sequence.num_tokens for sequence in sequences]),
            slots=torch.tensor([sequence.slot for sequence in sequences]),
            table=torch.tensor([s.blocks + [0] * (most - len(s.blocks)) for s in sequences]),
            alike=self._is_batch_invariant,
            deltas=deltas,
            adapters=adapters,
        )
        for sequence in sequences:
            sequence.num_tokens += 1
        return logits
