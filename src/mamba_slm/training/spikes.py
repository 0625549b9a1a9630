"""Noticing that a run goes wrong: a running mean and spread of the loss, and what counts as a spike.

Imports no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

HORIZON_STEPS = 50
"""Steps that the running mean and variance look back."""

LEARNING_STEPS = 20
"""Steps before the spread decides: the first losses fall too fast for it to mean much."""

LARGEST_RISE = 3.0
"""Nats above the very first loss that are a spike even then: a fresh model guesses evenly, and a rate that is far too
high makes it worse than that at once."""

SMALLEST_JUMP = 0.2
"""Nats above the mean below which nothing is a spike, however quiet the run was."""


@dataclass
class SpikeDetector:
    """Running mean and variance of the loss over the steps that were not spikes; JSON-able state.

        spike  ⇔  loss > mean + max(sigmas · deviation, 0.2);    in the first steps: loss > first loss + 3

    A spike does not enter the mean, so that a loss that stays high stays a spike.
    """

    sigmas: float
    mean: float = 0.0
    variance: float = 0.0
    steps: int = 0
    """Steps that entered the mean."""
    first: float | None = None
    """The first loss; None before it, and in runs of a version that did not keep it."""
    spike_start: int | None = None
    """Step at which the current spike began; None while the loss is normal."""

    @property
    def threshold(self) -> float:
        """Losses above this are spikes."""
        if self.steps < LEARNING_STEPS:
            return math.inf if self.first is None else self.first + LARGEST_RISE
        return self.mean + max(self.sigmas * math.sqrt(self.variance), SMALLEST_JUMP)

    def update(self, step: int, loss: float) -> bool:
        """Take in the loss of a step; True when it is a spike."""
        if self.first is None and not self.steps:
            self.first = loss
        if loss > self.threshold:
            if self.spike_start is None:
                self.spike_start = step
            return True
        self.spike_start = None
        self.steps += 1
        weight = max(1 / self.steps, 1 / HORIZON_STEPS)
        difference = loss - self.mean
        self.mean += weight * difference
        self.variance = (1 - weight) * (self.variance + weight * difference * difference)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Everything but the setting, as JSON."""
        state = asdict(self)
        del state["sigmas"]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)
