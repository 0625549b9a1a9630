"""Learning-rate schedules as pure functions of how much of the run is done. Imports no torch.

Progress is the largest share used up of the limits given (tokens, steps, seconds). It does not depend on how the batch
is cut, and under a time limit the schedule still reaches its end on any machine.

    cosine   warm up ──╮                     WSD   warm up ──────────────╮
                        ╲                                                 ╲
                          ╲──── final_share                                ╲ final_share
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError

ScheduleName = Literal["cosine", "wsd", "constant"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where a run ends: at whichever of these comes first. At least one is given."""

    tokens: int | None = None
    """Training tokens, padding of rows included."""

    steps: int | None = None
    """Optimiser steps."""

    seconds: float | None = None
    """Wall time of the whole run, measuring and saving included, summed over resumes."""

    def __post_init__(self):
        given = {"tokens": self.tokens, "steps": self.steps, "seconds": self.seconds}
        if all(value is None for value in given.values()):
            raise ConfigError(
                "a run needs an end",
                hint="give one of --max-tokens 2M, --max-steps 800, --max-minutes 30",
            )
        for name, value in given.items():
            if value is not None and not value > 0:
                unit, count = ("minutes", f"{value / 60:g}") if name == "seconds" else (name, value)
                raise ConfigError(f"the limit in {unit} must be > 0, got {count}")

    def progress(self, *, tokens: int, steps: int, seconds: float) -> float:
        """Share of the run that is done, in [0, 1]: the largest share used up of any limit."""
        used = [
            done / limit
            for done, limit in ((tokens, self.tokens), (steps, self.steps), (seconds, self.seconds))
            if limit is not None
        ]
        return min(1.0, max(0.0, *used))

    def reached(self, *, tokens: int, steps: int, seconds: float) -> str | None:
        """Name the limit that ends the run now, or None."""
        if self.steps is not None and steps >= self.steps:
            return f"{self.steps:,} steps"
        if self.tokens is not None and tokens >= self.tokens:
            return f"{self.tokens:,} tokens"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{self.seconds / 60:g} minutes"
        return None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then a shape that ends at `final_share` of the peak.

    learning_rate(p) = peak · min(1, p / warmup_share) · shape(p)

    cosine:   shape falls along half a cosine from the end of the warm-up to the end of the run.
    wsd:      shape is 1, then falls linearly over the last `decay_share` of the run (warm-up, stable, decay).
    constant: shape is 1.

    Source: cosine as in Loshchilov and Hutter, arXiv:1608.03983; WSD as in Hu et al. (MiniCPM), arXiv:2404.06395.
    """

    kind: ScheduleName
    peak: float
    warmup_share: float
    decay_share: float
    final_share: float

    def __post_init__(self):
        for name, value in (("warmup_share", self.warmup_share), ("decay_share", self.decay_share)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {value}")
        if not 0 <= self.final_share <= 1:
            raise ConfigError(f"final_share must lie in [0, 1], got {self.final_share}")
        if not (self.peak > 0 and math.isfinite(self.peak)):
            raise ConfigError(f"learning_rate must be a positive number, got {self.peak}")
        if self.kind == "wsd" and self.warmup_share + self.decay_share > 1:
            raise ConfigError(
                f"warm-up ({self.warmup_share:g}) and decay ({self.decay_share:g}) take more than the whole run",
                hint="lower warmup_share or decay_share",
            )

    def learning_rate_at(self, progress: float) -> float:
        """Learning rate when `progress` in [0, 1] of the run is done."""
        progress = min(1.0, max(0.0, progress))
        warm = min(1.0, progress / self.warmup_share) if self.warmup_share > 0 else 1.0
        return self.peak * warm * self.shape_at(progress)

    def shape_at(self, progress: float) -> float:
        """The part after the warm-up, between `final_share` and 1."""
        if self.kind == "cosine":
            start, curve = self.warmup_share, lambda x: 0.5 * (1 + math.cos(math.pi * x))
        elif self.kind == "wsd":
            start, curve = 1.0 - self.decay_share, lambda x: 1 - x
        else:
            return 1.0
        if progress <= start:
            return 1.0
        return self.final_share + (1 - self.final_share) * curve((progress - start) / (1 - start))
