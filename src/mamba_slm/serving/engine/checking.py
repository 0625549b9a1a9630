"""Reading guesses: several successive tokens of many sequences in one call; each keeps those that were right."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from typing import Protocol

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.compiled.guesses import Guesses
from mamba_slm.generation.compiled.runtime import MOST_ROWS
from mamba_slm.serving.engine.executor import CompiledExecutor, Executor, ReadPiece, TorchExecutor
from mamba_slm.serving.memory.pool import Pool, Sequence


class Checker(Protocol):
    """Every `check` is followed by one `keep`, before anything else is done with the sequences."""

    most_tokens: int
    """Of one call."""

    def takes(self, adapter: str) -> bool:
        """Whether sequences with this adapter can be checked."""
        ...

    def check(self, sequences: Rows[Sequence], tokens: Rows[Rows[int]]) -> list[Tensor]:
        """For each sequence its next token and guesses of what follows it; the logits [t v] after each of them."""
        ...

    def keep(self, counts: Rows[int]) -> None:
        """Let each sequence have read so many of its tokens, at least one, and no more."""
        ...


class ReadChecker:
    """By what any executor can do: the states after each token are kept until it is known which one is needed."""

    most_tokens = 1024

    def __init__(self, executor: TorchExecutor, pool: Pool):
        self._executor, self._pool = executor, pool
        self._taken: list[tuple[Sequence, int, list[list[tuple[Tensor, Tensor]]]]] = []

    def takes(self, adapter: str) -> bool:
        return self._executor.takes(adapter)

    def check(self, sequences: Rows[Sequence], tokens: Rows[Rows[int]]) -> list[Tensor]:
        reads = self._executor.read(
            [
                ReadPiece(sequence=sequence, tokens=given, keep_after=range(1, len(given)), all_logits=True)
                for sequence, given in zip(sequences, tokens, strict=True)
            ]
        )
        self._taken = [
            (sequence, sequence.num_tokens - len(given), read.states)
            for sequence, given, read in zip(sequences, tokens, reads, strict=True)
        ]
        return [read.logits for read in reads]

    def keep(self, counts: Rows[int]) -> None:
        for (sequence, before, states), count in zip(self._taken, counts, strict=True):
            if count <= len(states):
                self._pool.rewind(sequence, before + count, states[count - 1])
        self._taken = []


class CompiledChecker:
    """One compiled step, a row for each token, which reads the matrices once and the states in place."""

    most_tokens = MOST_ROWS

    def __init__(self, executor: CompiledExecutor, pool: Pool):
        self._executor, self._pool = executor, pool
        self._sequences: Rows[Sequence] = ()
        self._guesses: Guesses | None = None

    def takes(self, adapter: str) -> bool:
        return self._executor.takes(adapter)

    def check(self, sequences: Rows[Sequence], tokens: Rows[Rows[int]]) -> list[Tensor]:
        lengths = torch.tensor([len(given) for given in tokens])
        most = max(len(sequence.blocks) for sequence in sequences)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        before = torch.tensor([sequence.num_tokens for sequence in sequences]) - starts[:-1]
        table = torch.tensor([s.blocks + [0] * (most - len(s.blocks)) for s in sequences])
        deltas, adapters = self._executor.deltas_use([sequence.adapter for sequence in sequences]) or (None, None)
        self._sequences = sequences
        self._guesses = self._executor.compiled_step.guesses_in_blocks(
            torch.tensor([token for given in tokens for token in given]),
            self._pool.layers,
            num_tokens=before.repeat_interleave(lengths) + torch.arange(int(starts[-1])),
            slots=torch.tensor([sequence.slot for sequence in sequences]).repeat_interleave(lengths),
            table=table.repeat_interleave(lengths, dim=0),
            starts=starts,
            deltas=deltas,
            adapters=None if adapters is None else adapters.repeat_interleave(lengths),
        )
        return list(self._guesses.logits.split(lengths.tolist()))

    def keep(self, counts: Rows[int]) -> None:
        assert self._guesses is not None
        self._guesses.keep(counts)
        for sequence, count in zip(self._sequences, counts, strict=True):
            sequence.num_tokens += count
        self._guesses = None


def checker_of(executor: Executor, pool: Pool) -> Checker:
    """
    Raises:
        ConfigError: what computes cannot take tokens back.
    """
    if isinstance(executor, CompiledExecutor):
        return CompiledChecker(executor, pool)
    if isinstance(executor, TorchExecutor):
        return ReadChecker(executor, pool)
    raise ConfigError(
        f"guessed tokens must be taken back where they were wrong, which {executor.description} cannot",
        hint="serve the model folder from which it was exported, or leave --draft and --prompt-lookup out",
    )
