"""From logits to the next token: what changes logits, in its order, and one draw, all functions of their arguments.

Letters: `b` rows, `v` vocabulary.

The order of `Sampler.from_settings` is that of transformers: logit bias, penalties, what is forbidden, temperature,
top-k, top-p, min-p, typical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.generation.strategies.filters import Filter, Greedy, MinP, Temperature, TopK, TopP, Typical
from mamba_slm.generation.strategies.history import History
from mamba_slm.generation.strategies.penalties import (
    FrequencyPenalty,
    LogitBias,
    NoRepeatNgram,
    PresencePenalty,
    Processor,
    RepetitionPenalty,
)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Processors that know what was read and made, a chain of filters, then one draw from what is left."""

    processors: tuple[Processor, ...] = ()
    """Applied first, in this order; they need a history."""

    filters: tuple[Filter, ...] = ()
    """Applied in this order."""

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
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
        constraint: Processor | None = None,
    ) -> Sampler:
        """The chain for the settings that people give; None leaves a step out.

        Raises:
            ConfigError: a value is out of range.
        """
        processors: list[Processor] = [LogitBias(tuple(logit_bias.items()))] if logit_bias else []
        processors += [RepetitionPenalty(repetition_penalty)] if repetition_penalty not in (None, 1.0) else []
        processors += [FrequencyPenalty(frequency_penalty)] if frequency_penalty else []
        processors += [PresencePenalty(presence_penalty)] if presence_penalty else []
        processors += [NoRepeatNgram(no_repeat_ngram_size)] if no_repeat_ngram_size is not None else []
        processors += [constraint] if constraint is not None else []
        filters: list[Filter] = [Temperature(temperature)]
        filters += [TopK(top_k)] if top_k is not None else []
        filters += [TopP(top_p)] if top_p is not None else []
        filters += [MinP(min_p)] if min_p is not None else []
        filters += [Typical(typical_p)] if typical_p is not None else []
        return cls(processors=tuple(processors), filters=tuple(filters))

    @property
    def needs_history(self) -> bool:
        """Whether `history` must be given."""
        return bool(self.processors)

    def processed(self, logits: Tensor, history: History | None = None) -> Tensor:
        """The logits [b v] in float32 after every processor, before any filter.

        Args:
            logits: [b v].
            history: of the same rows; required when the sampler has processors.
        """
        logits = logits.float()
        for step in self.processors:
            assert history is not None, "a processor needs to know what was read and made"
            logits = step.process(logits, history)
        return logits

    def filtered(self, logits: Tensor, history: History | None = None) -> Tensor:
        """Logits [b v] after every processor and every filter, in float32; arguments as in `processed`."""
        logits = self.processed(logits, history)
        for step in self.filters:
            logits = step.filter(logits)
        return logits

    @property
    def is_greedy(self) -> bool:
        """Whether the first filter leaves one token, so that nothing needs to be drawn."""
        first = self.filters[0] if self.filters else None
        return isinstance(first, Greedy) or (isinstance(first, Temperature) and first.temperature == 0)

    def sample(self, logits: Tensor, generators: Sequence[torch.Generator], history: History | None = None) -> Tensor:
        """Draw one token per row.

        Args:
            logits: [b v].
            generators: one per row, so that a row's result does not depend on its neighbours. Each gives one number,
                or none when the sampler is greedy.
            history: of the same rows; see `processed`.

        Returns:
            tokens [b] int64, on the device of `logits`.

        Raises:
            CheckFailedError: a row of logits holds NaN or +inf.
        """
        if self.is_greedy:
            return most_likely(self.processed(logits, history))
        logits = self.processed(logits, history)
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
