"""The next token of every row, each with its own settings.

Letters: b rows, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.history import History
from mamba_slm.serving.engine.request import Logprob


@dataclass(frozen=True)
class Row:
    """What a token is drawn with."""

    sampler: Sampler
    generator: torch.Generator
    history: History | None
    """Where the sampler needs one."""
    logprobs: int | None


@dataclass(frozen=True)
class Choice:
    """A token, and how likely it and others were where somebody wants to know."""

    token: int
    logprob: Logprob | None = None
    top: tuple[Logprob, ...] = ()


def choose(logits: Tensor, rows: Sequence[Row], *, one_by_one: bool = False) -> list[Choice | MambaSlmError]:
    """Draw a token for every row of [b v]; a row that cannot be drawn has its error and harms no other.

    Args:
        one_by_one: do not draw rows with equal settings together, so that not even rounding depends on the others.
    """
    groups: dict[object, list[int]] = {}
    for number, row in enumerate(rows):
        together = row.history is None and not one_by_one
        groups.setdefault(row.sampler if together else ("alone", number), []).append(number)
    chosen: list[Choice | MambaSlmError | None] = [None] * len(rows)
    for numbers in groups.values():
        for number, outcome in zip(numbers, drawn(logits, rows, numbers), strict=True):
            chosen[number] = outcome
    return [outcome for outcome in chosen if outcome is not None]


def drawn(logits: Tensor, rows: Sequence[Row], numbers: Sequence[int]) -> list[Choice | MambaSlmError]:
    """Of rows with one sampler."""
    of_rows = logits if len(numbers) == len(rows) else logits[list(numbers)]
    first = rows[numbers[0]]
    try:
        tokens = first.sampler.sample(of_rows, [rows[number].generator for number in numbers], first.history).tolist()
    except MambaSlmError as error:
        if len(numbers) == 1:
            return [error]
        return [outcome for number in numbers for outcome in drawn(logits, rows, [number])]
    return [
        with_logprobs(token, logits[number], rows[number].logprobs)
        for token, number in zip(tokens, numbers, strict=True)
    ]


def with_logprobs(token: int, logits: Tensor, count: int | None) -> Choice:
    """The token, and the `count` likeliest ones under logits [v]."""
    if count is None:
        return Choice(token)
    logprobs = logits.float().log_softmax(dim=-1)
    values, ids = logprobs.topk(min(count, logprobs.shape[-1]))
    top = tuple(map(Logprob, ids.tolist(), values.tolist()))
    return Choice(token, Logprob(token, float(logprobs[token])), top)
