"""Which steps to look at closely. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError

MOST_STEPS = 100
"""A trace holds some thousands of events per step, in memory until it is written."""


@dataclass(frozen=True, kw_only=True)
class StepRange:
    """Steps from `first` to `last`, both included, counted from 1."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"


def parse_steps(text: str, *, name: str = "profile_steps") -> StepRange:
    """`10:20`, or one step: `10`.

    >>> parse_steps("10:20").count, parse_steps("7")
    (11, StepRange(first=7, last=7))

    Raises:
        ConfigError: not of that form, steps out of order, or more than `MOST_STEPS`.
    """
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if not found:
        raise ConfigError(f"{name} is {text!r}", hint="write FIRST:LAST, for example 10:20; both are included")
    steps = StepRange(first=int(found[1]), last=int(found[2] or found[1]))
    if not 1 <= steps.first <= steps.last:
        raise ConfigError(f"{name} is {text}: steps count from 1, and the last may not lie before the first")
    if steps.count > MOST_STEPS:
        raise ConfigError(
            f"{name} {text} are {steps.count} steps; at most {MOST_STEPS} can be traced at once",
            hint=f"use {steps.first}:{steps.first + 9}: ten show as much",
        )
    return steps
