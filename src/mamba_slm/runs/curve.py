"""A curve in one line of text."""

from __future__ import annotations

import itertools
import math
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
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = high - low
    if not 0 < span < math.inf:
        return BLOCKS[0] * len(values)
    # dividing first: 7 / span overflows when the values differ by less than the smallest normal number
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)
