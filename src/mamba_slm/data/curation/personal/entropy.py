"""How evenly a string uses its characters."""

from __future__ import annotations

import math
from collections import Counter


def bits_per_character(value: str) -> float:
    """Shannon entropy of the string's own counts, in bits per character; 0 for an empty one.

    >>> bits_per_character("aaaa"), bits_per_character("abcd")
    (0.0, 2.0)
    """
    size = len(value)
    return math.fsum(count * math.log2(size / count) for count in Counter(value).values()) / size if size else 0.0
