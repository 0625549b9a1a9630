"""Which source each sample of a mixture comes from: exact at every moment, and known for any sample at once.

Shares are whole units of a period: 30, 25 and 45 of 100, say. Within a period every sample of a source has a window,
from the first place where its source would else be a whole sample behind to the last one, and the windows are served
earliest deadline first; a table holds the period. After any number of samples every source is within one of
share × samples, and at the end of a period exact.

Sources: Steiner and Yeomans, "Level Schedules for Mixed-Model, Just-in-Time Processes", Management Science 39, 1993
(such an order exists, and earliest deadline first finds it); Tijdeman, "The chairman assignment problem", 1980 (the
bound).
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from mamba_slm.core.errors import ConfigError

LONGEST_PERIOD = 1 << 18
"""Units in a period at most: a quarter of a second and 1.3 MB."""


def whole_units(weights: Sequence[Fraction | float]) -> tuple[int, ...]:
    """Shares of a period as whole numbers without a common divisor, in proportion to the weights.

    Exact where the weights allow it: 0.3, 0.25, 0.45 are 6, 5, 9 of 20. Where that takes more units than
    `LONGEST_PERIOD`, a share is off by about one in 262,144, and a positive weight has at least one unit.

    >>> whole_units([0.3, 0.25, 0.45]), whole_units([1, 2]), whole_units([0.5, 0, 0.5])
    ((6, 5, 9), (1, 2), (1, 0, 1))

    Raises:
        ConfigError: no weight is positive, one is negative or no number, or there are too many sources.
    """
    exact = []
    for weight in weights:
        if not (weight >= 0 and weight < math.inf):
            raise ConfigError(f"a weight must be a number of at least 0, got {weight}")
        exact.append(weight if isinstance(weight, Fraction) else simplest(weight))
    total = sum(exact, Fraction(0))
    if total == 0:
        raise ConfigError("a mixture needs at least one positive weight")
    if sum(weight > 0 for weight in exact) > LONGEST_PERIOD // 4:
        raise ConfigError(f"a mixture takes at most {LONGEST_PERIOD // 4:,} sources, got {len(exact):,}")
    shares = [weight / total for weight in exact]
    period = math.lcm(*(share.denominator for share in shares))
    if period <= LONGEST_PERIOD:
        units = [int(share * period) for share in shares]
    else:
        units = largest_remainders(shares, LONGEST_PERIOD)
    divisor = math.gcd(*units)
    return tuple(unit // divisor for unit in units)


def simplest(weight: float) -> Fraction:
    """The fraction that a number stands for: what float arithmetic made of a third or of 0.15 is that again.

    >>> simplest(0.05 + 0.1), simplest(1 / 3), simplest(250_000_000)
    (Fraction(3, 20), Fraction(1, 3), Fraction(250000000, 1))
    """
    written = Fraction(repr(weight))
    near = written.limit_denominator(1_000_000)
    return near if abs(near - written) <= written * Fraction(1, 10**14) else written


def largest_remainders(shares: Sequence[Fraction], period: int) -> list[int]:
    """Round shares to whole units that sum to `period`; a positive share gets at least one unit."""
    units = [max(1, int(share * period)) if share else 0 for share in shares]
    missing = period - sum(units)
    by_need = sorted(range(len(shares)), key=lambda i: (units[i] - shares[i] * period, i))
    if missing > 0:
        for i in by_need[:missing]:
            units[i] += 1
    while missing < 0:  # the least of one unit was given to many: the largest give it back
        largest = max(range(len(units)), key=units.__getitem__)
        units[largest] -= 1
        missing += 1
    return units


class Interleave:
    """The order of one period, repeated for ever.

    >>> order = Interleave((2, 1))
    >>> [order[i] for i in range(6)], order.counts(1_000_000)
    ([(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (1, 1)], (666667, 333333))

    Args:
        units: samples of each source per period, from `whole_units`.
    """

    def __init__(self, units: tuple[int, ...]):
        self.units = units
        self.period = sum(units)
        self.source, self.rank = period_table(units)

    def __getitem__(self, sample: int) -> tuple[int, int]:
        """The source of a sample, and how many samples of that source come before it."""
        periods, place = divmod(sample, self.period)
        source = int(self.source[place])
        return source, periods * self.units[source] + int(self.rank[place])

    def counts(self, samples: int) -> tuple[int, ...]:
        """How many of the first `samples` come from each source."""
        periods, place = divmod(samples, self.period)
        part = np.bincount(self.source[:place], minlength=len(self.units))
        return tuple(periods * unit + int(count) for unit, count in zip(self.units, part, strict=True))


@functools.lru_cache(maxsize=16)
def period_table(units: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The source of each place of a period, and how many places before it are of the same source: both [period].

    Sample j (from 1) of a source with u of q units may come at places floor((j - 1) q / u) + 1 … ceil(j q / u), counted
    from 1: one earlier and its source would be a whole sample ahead, one later a whole sample behind.
    """
    period = sum(units)
    source = np.empty(period, dtype=np.min_scalar_type(len(units) - 1))
    rank = np.empty(period, dtype=np.uint32)
    drawn = [0] * len(units)
    waiting = [(1, number) for number, unit in enumerate(units) if unit]
    heapq.heapify(waiting)
    ready: list[tuple[int, int]] = []
    for place in range(1, period + 1):
        while waiting and waiting[0][0] <= place:
            _, number = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(drawn[number] + 1) * period // units[number]), number))
        deadline, number = heapq.heappop(ready)
        assert place <= deadline, "earliest deadline first meets every deadline"
        source[place - 1], rank[place - 1] = number, drawn[number]
        drawn[number] += 1
        if drawn[number] < units[number]:
            heapq.heappush(waiting, (drawn[number] * period // units[number] + 1, number))
    source.flags.writeable = rank.flags.writeable = False
    return source, rank
