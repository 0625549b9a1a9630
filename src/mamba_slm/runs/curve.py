"""A curve in one line of text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def bucket_means(values: Sequence[float], buckets: int) -> list[float]:
    """Means of `buckets` runs of equal length, fewer when there are fewer values.

    >>> bucket_means([1, 3, 5, 7], 2)
    [2.0, 6.0]
    """
    count = min(buckets, len(values))
    cuts = [i * len(values) // count for i in range(count)] + [len(values)] if count else []
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]


def sparkline(values: Sequence[float]) -> str:
    """One block per value, between the smallest and the largest; a flat curve is drawn at the bottom.

    >>> sparkline([8, 4, 2, 1])
    '█▄▂▁'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)
