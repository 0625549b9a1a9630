"""How far a share counted on few cases can be off."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""Standard normal quantile of 97.5%, for intervals that hold the truth 95 times in 100."""


@dataclass(frozen=True)
class Share:
    """`hits` of `count` cases, with its 95% interval of Wilson (1927), which keeps its promise for few cases and for
    shares near 0 and 1, where the interval of the normal distribution does not.

    >>> print(Share(43, 74))
    58% [47–69], n=74
    >>> print(Share(0, 0))
    –, n=0
    """

    hits: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.count:
            raise ValueError(f"{self.hits} of {self.count} is no share")

    @property
    def value(self) -> float | None:
        """hits / count; None where there is no case."""
        return self.hits / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, each in [0, 1]; (0, 1) where there is no case."""
        n, z2 = self.count, Z_95**2
        if n == 0:
            return 0.0, 1.0
        share = self.hits / n
        middle = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        low = 0.0 if self.hits == 0 else max(0.0, middle - half)
        return low, 1.0 if self.hits == n else min(1.0, middle + half)

    def excludes(self, share: float) -> bool:
        """Whether the interval leaves `share` out, so that chance alone hardly explains the difference."""
        low, high = self.interval
        return not low <= share <= high

    def as_json(self) -> dict[str, float | int | list[float] | None]:
        """`share`, `interval`, `hits` and `count`."""
        return {"share": self.value, "interval": list(self.interval), "hits": self.hits, "count": self.count}

    def __str__(self) -> str:
        if self.value is None:
            return "–, n=0"
        low, high = self.interval
        return f"{self.value:.0%} [{100 * low:.0f}–{100 * high:.0f}], n={self.count:,}"
