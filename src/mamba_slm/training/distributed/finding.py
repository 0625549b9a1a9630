"""One line of what was found out about the processes of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found."""

    name: str
    status: Literal["ok", "warn", "fail"] = "ok"
    """`fail`: training would not work, or not be right; `warn`: it would be slow or surprising."""

    text: str
    hint: str = ""
    """What to do about it; empty where nothing is amiss."""

    measured: dict[str, float] = field(default_factory=dict)
    """Numbers behind the text, units in their names."""


def milliseconds(seconds: float) -> str:
    """A short time as people say it.

    >>> milliseconds(0.000213), milliseconds(0.0123), milliseconds(1.5)
    ('0.21 ms', '12 ms', '1500 ms')
    """
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"
