"""Filters: logits [b v] to logits [b v] in which tokens that may not be drawn are -inf.

Letters: `b` rows, `v` vocabulary.

Every filter keeps at least one token per row, breaks ties towards the lower token id, and depends on nothing but its
argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError

NUCLEUS_GUESS = 1024
"""So many tokens hold the nucleus of most distributions; sorting a whole vocabulary takes as long as a small model."""


class Filter(Protocol):
    """Anything with `filter(logits [b v]) -> logits [b v]`."""

    def filter(self, logits: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Greedy:
    """Keep only the most likely token."""

    def filter(self, logits: Tensor) -> Tensor:
        best = logits.argmax(dim=-1, keepdim=True)  # the first of equal ones
        return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))


@dataclass(frozen=True)
class Temperature:
    """Divide logits by `temperature`: below 1 sharpens, above 1 flattens, 0 is greedy."""

    temperature: float

    def __post_init__(self):
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ConfigError(
                f"temperature must be 0 or more, got {self.temperature}", hint="0 is greedy, 1 is neutral"
            )

    def filter(self, logits: Tensor) -> Tensor:
        if self.temperature < torch.finfo(torch.float32).tiny:  # which is 0 where it is divided by
            return Greedy().filter(logits)
        # The maximum is subtracted first, so that a tiny temperature cannot overflow.
        return (logits - logits.amax(dim=-1, keepdim=True)) / self.temperature


@dataclass(frozen=True)
class TopK:
    """Keep exactly the `k` most likely tokens, or all of them when the vocabulary is smaller."""

    k: int

    def __post_init__(self):
        if self.k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.k}", hint="leave it out to keep every token")

    def filter(self, logits: Tensor) -> Tensor:
        if self.k >= logits.shape[-1]:
            return logits
        largest = logits.topk(self.k, dim=-1).values
        return keep_largest(logits, largest, torch.full_like(largest[..., :1], self.k, dtype=torch.int64))


@dataclass(frozen=True)
class TopP:
    """Keep the smallest set of most likely tokens whose probabilities sum to at least `p` (nucleus sampling).

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
    """

    p: float

    def __post_init__(self):
        if not 0 < self.p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], got {self.p}", hint="1 keeps every token")

    def filter(self, logits: Tensor) -> Tensor:
        if self.p == 1:
            return logits
        total = logits.double().logsumexp(dim=-1, keepdim=True)
        largest = logits.topk(min(NUCLEUS_GUESS, logits.shape[-1]), dim=-1).values
        mass = (largest.double() - total).exp().cumsum(dim=-1)
        if largest.shape[-1] < logits.shape[-1] and bool((mass[..., -1] < self.p).any()):
            largest = descending(logits)
            mass = (largest.double() - total).exp().cumsum(dim=-1)
        count = 1 + (mass[..., :-1] < self.p).sum(dim=-1, keepdim=True)  # a token is kept if less lies before it
        return keep_largest(logits, largest, count)


def descending(logits: Tensor) -> Tensor:
    """The values of each row [b v], largest first. On a CPU, numpy sorts values alone eight times as fast as torch."""
    if logits.device.type == "cpu":
        return torch.from_numpy(np.sort(logits.detach().numpy(), axis=-1)).flip(-1)
    return logits.sort(dim=-1, descending=True).values


def keep_largest(logits: Tensor, largest: Tensor, count: Tensor) -> Tensor:
    """Logits [b v] without all but the `count` [b 1] largest of each row; of equal ones the first are kept.

    `largest` [b n] begins with at least so many of them, in descending order.
    """
    threshold = largest.gather(-1, count - 1)
    kept = logits >= threshold
    if bool((kept.sum(dim=-1, keepdim=True) > count).any()):
        tied = logits == threshold
        room = count - (logits > threshold).sum(dim=-1, keepdim=True)
        kept &= ~tied | (tied.cumsum(dim=-1) <= room)
    return logits.masked_fill(~kept, -math.inf)


@dataclass(frozen=True)
class MinP:
    """Keep the tokens that are at least `p` times as likely as the most likely one.

    Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.
    """

    p: float

    def __post_init__(self):
        if not 0 <= self.p <= 1:
            raise ConfigError(f"min_p must lie in [0, 1], got {self.p}", hint="0 keeps every token")

    def filter(self, logits: Tensor) -> Tensor:
        if self.p == 0:
            return logits
        below = logits < logits.amax(dim=-1, keepdim=True) + math.log(self.p)
        return logits.masked_fill(below, -math.inf)


@dataclass(frozen=True)
class Typical:
    """Keep the fewest tokens of mass `p` whose surprise -log p(token) is nearest to the expected surprise, the entropy.

    Source: Meister et al., "Locally Typical Sampling", arXiv:2202.00666.
    """

    p: float

    def __post_init__(self):
        if not 0 < self.p <= 1:
            raise ConfigError(f"typical_p must lie in (0, 1], got {self.p}", hint="1 keeps every token")

    def filter(self, logits: Tensor) -> Tensor:
        if self.p == 1:
            return logits
        log_probabilities = logits.double().log_softmax(dim=-1)
        probabilities = log_probabilities.exp()
        surprise = -log_probabilities.masked_fill(probabilities == 0, 0)
        entropy = (probabilities * surprise).sum(dim=-1, keepdim=True)
        distance = (surprise - entropy).abs().masked_fill(probabilities == 0, math.inf)
        order = distance.sort(dim=-1, stable=True).indices
        mass = probabilities.gather(-1, order).cumsum(dim=-1)
        is_kept = torch.zeros_like(logits, dtype=torch.bool)
        first = torch.ones_like(is_kept[..., :1])
        is_kept.scatter_(-1, order, torch.cat([first, mass[..., :-1] < self.p], dim=-1))
        return logits.masked_fill(~is_kept, -math.inf)
