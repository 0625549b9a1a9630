"""Delivering rows that a search has found, as if they were made now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.events import FinishReason, TokenEvent
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.request import Request


@dataclass(frozen=True)
class Found:
    """One result of a search."""

    tokens: tuple[int, ...]
    """New tokens, an end or stop token included."""
    finish_reason: FinishReason
    score: float
    """Larger is better."""
    logprobs: tuple[float, ...] | None = None
    """Of every token, where they are known."""


def replay(request: Request, row: int, found: Found, dropped: set[int]) -> Iterator[TokenEvent]:
    """The events of one row; where the request has a state, it reads the prompt and all tokens but the last."""
    state = request.state
    if state is not None:
        prefill(request.runtime, request.prompts, state)
    last = len(found.tokens) - 1
    for place, token in enumerate(found.tokens):
        logprob = None if found.logprobs is None else found.logprobs[place]
        yield TokenEvent(row, token, found.finish_reason if place == last else None, logprob)
        if row in dropped:
            return
        if state is not None and place < last:
            device = request.runtime.device
            request.runtime.next_logits(torch.tensor([[token]], device=device), None, state)


def require_one_result(request: Request, name: str) -> None:
    """Raise ConfigError if a state is to be continued by several rows, of which a search can follow only one."""
    if request.state is not None and request.num_rows > 1:
        raise ConfigError(
            f"{name} can continue a state with one row only, and here are {request.num_rows}",
            hint="ask for one result, or continue the rows one after the other",
        )


def require_greedy(request: Request, name: str) -> None:
    """Raise ConfigError for filters, which a search without draws would not use."""
    if not request.sampler.is_greedy:
        raise ConfigError(
            f"{name} does not draw, so temperature, top-k, top-p, min-p and typical mean nothing to it",
            hint="set the temperature to 0; penalties, biases and constraints stay possible",
        )


def best_first(results: Sequence[Found]) -> list[Found]:
    """By score; of equal ones the earlier first."""
    return sorted(results, key=lambda result: -result.score)
