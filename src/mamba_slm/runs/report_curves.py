"""The curves of a run, short enough to draw: stretches of steps, each with its lowest, mean and highest value.

Nothing disappears by shortening: a one-step spike is the highest value of its stretch. Smoothing goes over the means
and is drawn beside them, never instead of them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mamba_slm.runs.evidence import Evidence, Row, number

STRETCHES = 360
LARGEST = 1e100  # beyond what a chart can show, and far enough from where sums overflow
KEYS = ("loss", "learning_rate", "tokens_per_second", "mfu", "grad_norm", "memory_bytes")
AXES = ("step", "tokens", "seconds")
WIDEST_SMOOTHING = 0.15
"""Standard deviation of the widest smoothing as a share of the run."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A run in at most `STRETCHES` stretches of equally many steps."""

    positions: dict[str, list[float]]
    """Axis → where each stretch ends; an axis that some row lacks is absent."""

    low: dict[str, list[float | None]]
    """Key → lowest value of each stretch; None where it was not measured. A key that was never measured is absent."""

    mean: dict[str, list[float | None]]
    high: dict[str, list[float | None]]

    rows_per_stretch: float
    """1 when every step is its own stretch."""

    @property
    def length(self) -> int:
        return len(self.positions.get("step", ()))

    def place(self, step: float, axis: str) -> float:
        """Where a step lies on an axis, between the ends of the stretches."""
        steps, others = [0.0, *self.positions["step"]], [0.0, *self.positions[axis]]
        right = min(max(bisect.bisect_left(steps, step), 1), len(steps) - 1)
        width = steps[right] - steps[right - 1]
        share = min(max((step - steps[right - 1]) / width, 0.0), 1.0) if width > 0 else 1.0
        return others[right - 1] + share * (others[right] - others[right - 1])


def read_curves(evidence: Evidence, *, stretches: int = STRETCHES) -> Curves:
    """The curves of a run; empty without training rows."""
    rows = evidence.train
    count = min(stretches, len(rows))
    cuts = [i * len(rows) // count for i in range(count + 1)] if count else []
    parts = [rows[a:b] for a, b in itertools.pairwise(cuts)]
    positions = {axis: [number(part[-1], axis) for part in parts] for axis in AXES}
    found = {
        axis: [clamped(value) for value in values if value is not None]
        for axis, values in positions.items()
        if None not in values
    }
    low: dict[str, list[float | None]] = {}
    mean: dict[str, list[float | None]] = {}
    high: dict[str, list[float | None]] = {}
    for key in KEYS:
        values = [measured(part, key) for part in parts]
        if any(values):
            low[key] = [min(each) if each else None for each in values]
            mean[key] = [fmean(each) if each else None for each in values]
            high[key] = [max(each) if each else None for each in values]
    return Curves(positions=found, low=low, mean=mean, high=high, rows_per_stretch=len(rows) / count if count else 1.0)


def measured(rows: Sequence[Row], key: str) -> list[float]:
    """The numbers that the rows have under `key`."""
    found = [value for row in rows if (value := number(row, key)) is not None]
    return [value if -LARGEST < value < LARGEST else clamped(value) for value in found]


def clamped(value: float) -> float:
    """The value within what a chart can show."""
    return min(max(float(value), -LARGEST), LARGEST)


def smoothing_width(amount: float, length: int) -> float:
    """Standard deviation, in stretches, of a smoothing of `amount` in [0, 1]; 0 leaves the curve as it is."""
    return amount**2 * WIDEST_SMOOTHING * length


def smoothed(values: Sequence[float | None], width: float) -> list[float | None]:
    """At each place the value of a line fitted to its surroundings, with normal weights of standard deviation `width`.

    Gaps stay gaps. Unlike a running average, the curve does not lag behind, and at its ends it follows the slope.
    """
    if width <= 0:
        return list(values)
    reach = math.ceil(3 * width)
    weights = [math.exp(-0.5 * (offset / width) ** 2) for offset in range(reach + 1)]
    smooth: list[float | None] = []
    for i, value in enumerate(values):
        if value is None:
            smooth.append(None)
            continue
        s = sx = sxx = sy = sxy = 0.0  # weighted sums over the surroundings; x counts from here
        for j in range(max(0, i - reach), min(len(values), i + reach + 1)):
            near = values[j]
            if near is not None:
                weight, x = weights[abs(i - j)], j - i
                s, sx, sxx = s + weight, sx + weight * x, sxx + weight * x * x
                sy, sxy = sy + weight * near, sxy + weight * x * near
        spread = s * sxx - sx * sx
        smooth.append((sxx * sy - sx * sxy) / spread if spread > 1e-9 * s * s else sy / s)
    return smooth
