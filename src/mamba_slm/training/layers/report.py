"""What a look into the layers says. Imports no torch."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LogHistogram:
    """Counts in bins of equal width in powers of ten; what lies outside is in the first or last bin.

    `counts[i]` values lie between 10 ** (low + i / per_decade) and 10 ** (low + (i + 1) / per_decade).
    """

    low: float
    """Power of ten at which the first bin begins."""

    per_decade: int
    """Bins per power of ten."""

    counts: Sequence[int]

    def edges(self) -> list[float]:
        """The borders of the bins, one more than there are bins."""
        return [10 ** (self.low + i / self.per_decade) for i in range(len(self.counts) + 1)]

    def quantile(self, share: float) -> float | None:
        """The value below which this share of the counts lies, to a fraction of a bin; None without counts."""
        sums = list(itertools.accumulate(self.counts))
        if not sums or not sums[-1]:
            return None
        wanted = share * sums[-1]
        i = bisect.bisect_left(sums, wanted)
        while not self.counts[i]:  # a share of 0, and nothing in the first bins
            i += 1
        before = sums[i] - self.counts[i]
        return 10 ** (self.low + (i + (wanted - before) / self.counts[i]) / self.per_decade)

    def __add__(self, other: LogHistogram) -> LogHistogram:
        assert (self.low, self.per_decade, len(self.counts)) == (other.low, other.per_decade, len(other.counts))
        summed = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        return LogHistogram(low=self.low, per_decade=self.per_decade, counts=summed)


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One look into the layers, at one step."""

    step: int
    tokens: int
    update_ratios: Mapping[str, float]
    """By part of the model (`embedding`, `0 M`, `1 -`, …): norm of the change of its weights in this step over the
    norm of the weights."""

    step_sizes: Mapping[str, LogHistogram]
    """By Mamba layer: dt after softplus, over the tokens and heads of the step."""

    decay_lives: Mapping[str, LogHistogram]
    """By Mamba layer: 1 / (dt · exp(A_log)), the tokens after which a state has decayed to 1/e."""

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl."""
        return {
            "kind": "layers", "step": self.step, "tokens": self.tokens,
            "update_ratios": {name: float(f"{ratio:.4g}") for name, ratio in self.update_ratios.items()},
            "step_sizes": shared(self.step_sizes), "decay_lives": shared(self.decay_lives),
        }  # fmt: skip


def shared(histograms: Mapping[str, LogHistogram]) -> dict[str, Any]:
    """Histograms with the same bins as JSON."""
    if not histograms:
        return {}
    first = next(iter(histograms.values()))
    counts = {name: list(histogram.counts) for name, histogram in histograms.items()}
    return {"low": first.low, "per_decade": first.per_decade, "counts": counts}


def all_layers(histograms: Mapping[str, LogHistogram]) -> LogHistogram | None:
    """The sum over the layers; None without any."""
    parts = list(histograms.values())
    return None if not parts else sum(parts[1:], start=parts[0])
