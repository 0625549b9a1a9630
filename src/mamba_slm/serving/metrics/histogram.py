"""Counts by size, for one thread that writes and others that read.

The engine's thread counts tens of thousands of tokens in a second, so a count is one search and two additions without a
lock; whoever reads copies the list, which no other thread can interrupt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from mamba_slm.serving.metrics.buckets import Bounds


class Histogram:
    """How many values fell between bounds."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Bounds):
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """Sum of all values."""

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound counts below it."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count several."""
        counts, bounds = self._counts, self.bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)

    def cumulative(self) -> list[int]:
        """How many values were at most each bound, and last: how many there were."""
        return list(accumulate(self._counts.copy()))
