"""From logits to the next token: small frozen filters and one draw, all pure functions of their arguments.

Letters: `b` rows, `v` vocabulary.

A filter maps logits [b v] to logits [b v] in which tokens that may not be drawn are -inf. Every filter keeps at
least one token per row, breaks ties towards the lower token id, and depends on nothing but its argument. The order
of `Sampler.from_settings` is that of transformers: repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, ConfigError

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
        if self.temperature == 0:
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
class RepetitionPenalty:
    """Make tokens that were seen less likely: positive logits are divided by `penalty`, negative ones multiplied.

    Source: Keskar et al., "CTRL", arXiv:1909.05858, with the sign rule of transformers.
    """

    penalty: float

    def __post_init__(self):
        if not (self.penalty > 0 and math.isfinite(self.penalty)):
            raise ConfigError(f"repetition_penalty must be above 0, got {self.penalty}", hint="1 changes nothing")

    def apply(self, logits: Tensor, seen: Tensor) -> Tensor:
        """`seen` [b v] bool: True where the token occurs in the prompt or in what was generated."""
        return torch.where(seen, torch.where(logits > 0, logits / self.penalty, logits * self.penalty), logits)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A repetition penalty and a chain of filters, then one draw from what is left."""

    filters: tuple[Filter, ...] = ()
    """Applied in this order."""

    repetition: RepetitionPenalty | None = None
    """Applied before every filter; needs `seen`."""

    @classmethod
    def greedy(cls) -> Sampler:
        """Always the most likely token."""
        return cls(filters=(Greedy(),))

    @classmethod
    def from_settings(
        cls,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
    ) -> Sampler:
        """The chain for the settings that people give; None leaves a step out.

        Raises:
            ConfigError: a value is out of range.
        """
        filters: list[Filter] = [Temperature(temperature)]
        filters += [TopK(top_k)] if top_k is not None else []
        filters += [TopP(top_p)] if top_p is not None else []
        filters += [MinP(min_p)] if min_p is not None else []
        repetition = RepetitionPenalty(repetition_penalty) if repetition_penalty not in (None, 1.0) else None
        return cls(filters=tuple(filters), repetition=repetition)

    def filtered(self, logits: Tensor, *, seen: Tensor | None = None) -> Tensor:
        """Logits [b v] after the penalty and every filter, in float32.

        Args:
            logits: [b v].
            seen: [b v] bool; required when the sampler has a repetition penalty.
        """
        logits = self.penalized(logits, seen=seen)
        for step in self.filters:
            logits = step.filter(logits)
        return logits

    def penalized(self, logits: Tensor, *, seen: Tensor | None = None) -> Tensor:
        """The logits [b v] in float32 after the repetition penalty, before any filter."""
        if self.repetition is None:
            return logits.float()
        assert seen is not None, "a repetition penalty needs to know what was seen"
        return self.repetition.apply(logits.float(), seen)

    @property
    def is_greedy(self) -> bool:
        """Whether the first filter leaves one token, so that nothing needs to be drawn."""
        first = self.filters[0] if self.filters else None
        return isinstance(first, Greedy) or (isinstance(first, Temperature) and first.temperature == 0)

    def sample(self, logits: Tensor, generators: Sequence[torch.Generator], *, seen: Tensor | None = None) -> Tensor:
        """Draw one token per row.

        Args:
            logits: [b v].
            generators: one per row, so that a row's result does not depend on its neighbours. Each gives one number,
                or none when the sampler is greedy.
            seen: [b v] bool; see `filtered`.

        Returns:
            tokens [b] int64, on the device of `logits`.

        Raises:
            CheckFailedError: a row of logits holds NaN or +inf.
        """
        if self.is_greedy:
            return most_likely(self.penalized(logits, seen=seen))
        logits = self.penalized(logits, seen=seen)
        require_finite(logits.amax(dim=-1))
        for step in self.filters:
            logits = step.filter(logits)
        uniforms = torch.stack(
            [
                torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
                for generator in generators
            ]
        )
        return draw(logits, uniforms.to(logits.device))


def most_likely(logits: Tensor) -> Tensor:
    """The token [b] of the largest logit, the first of equal ones.

    Raises:
        CheckFailedError: a row of logits [b v] holds NaN or +inf, or nothing but -inf.
    """
    largest, tokens = logits.max(dim=-1)
    require_finite(largest)
    return tokens


def require_finite(values: Tensor) -> None:
    """Raise CheckFailedError unless all are finite numbers."""
    if not bool(torch.isfinite(values).all()):
        raise CheckFailedError(
            "the model returned logits that are not finite, so no token can be drawn",
            hint="the weights are probably damaged or diverged in training; try an earlier checkpoint",
        )


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """The token at which the cumulative distribution of softmax(logits) passes a uniform number.

    Args:
        logits: [b v]; -inf means impossible.
        uniforms: [b] float64 in [0, 1).

    Returns:
        tokens [b] int64; never one of probability 0.

    Raises:
        CheckFailedError: a row of logits holds NaN or +inf, or nothing but -inf.
    """
    if logits.shape[0] == 1:
        is_possible = logits[0] != -math.inf
        if 0 < int(is_possible.count_nonzero()) < logits.shape[-1] // 4:  # filters left few; the others add nothing
            possible = is_possible.nonzero()[:, 0]
            return possible[draw_among(logits[:, possible], uniforms)]
    return draw_among(logits, uniforms)


def draw_among(logits: Tensor, uniforms: Tensor) -> Tensor:
    """`draw` from all columns."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)  # [b v]
    total = cumulative[:, -1:]
    require_finite(total)
    # Rounding may take uniform * total up to total itself, beyond which there is no token.
    target = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def row_generators(seed: int, num_rows: int) -> list[torch.Generator]:
    """One generator per row. Row i depends on `seed` and i alone; row 0 is seeded with `seed` itself."""
    golden = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: neighbouring rows land far apart
    return [torch.Generator().manual_seed((seed + row * golden) % 2**63) for row in range(num_rows)]
