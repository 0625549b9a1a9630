"""Where a hybrid is faster than attention alone, and where it is not: from the results of `bench --crossover` alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.evaluation.bench.names import ATTENTION, OURS

CLAIMED = (1.3, 1.4)
"""What was published: 30 to 40% faster than attention alone."""
WHAT = {"train": "training", "prefill": "prefill", "decode": "decoding"}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Both contenders at one length."""

    tokens: int
    ratio: float
    """Time of attention alone over that of the hybrid: above 1 the hybrid is faster."""

    hybrid: dict[str, Any]
    attention: dict[str, Any]


def points(results: dict[str, Any], task: str) -> list[Point]:
    """The lengths at which both were measured, short ones first."""
    found = []
    for cell in results["cells"]:
        rows = {row["contender"]: row for row in cell["rows"]}
        if cell["task"] == task and {OURS, ATTENTION} <= set(rows):
            ratio = rows[ATTENTION]["ours_times_as_fast"]
            found.append(Point(tokens=cell["tokens"], ratio=ratio, hybrid=rows[OURS], attention=rows[ATTENTION]))
    return sorted(found, key=lambda point: point.tokens)


def crossing(measured: Sequence[tuple[int, float]], level: float) -> float | None:
    """The shortest length from which the ratio stays at or above `level`, interpolated between logarithms of lengths.

    Args:
        measured: (tokens, ratio), short ones first.

    Returns:
        The first length where it is above at every one; None where the last one is below.

    >>> crossing([(512, 0.9), (2048, 1.1)], 1.0), crossing([(512, 1.2), (2048, 1.1)], 1.0), crossing([(512, 0.9)], 1.0)
    (1024.0, 512.0, None)
    """
    if not measured or measured[-1][1] < level:
        return None
    below = [number for number, (_, ratio) in enumerate(measured) if ratio < level]
    if not below:
        return float(measured[0][0])
    (tokens, ratio), (next_tokens, next_ratio) = measured[below[-1]], measured[below[-1] + 1]
    share = (level - ratio) / (next_ratio - ratio)
    return round(math.exp(math.log(tokens) + share * (math.log(next_tokens) - math.log(tokens))), 6)


def where_it_holds(measured: Sequence[tuple[int, float]], level: float) -> str:
    """In words: from which length the hybrid is `level` times as fast.

    >>> where_it_holds([(512, 0.9), (2048, 1.1)], 1.0)
    'from about 1,000 tokens'
    >>> where_it_holds([(512, 1.4), (2048, 1.5)], 1.3)
    'at every length measured'
    >>> where_it_holds([(512, 0.9), (2048, 1.1)], 1.3)
    'at no length measured'
    >>> where_it_holds([(512, 1.4), (2048, 1.1)], 1.3)
    'at 512 tokens, and not at the longest'
    """
    found = crossing(measured, level)
    above = [tokens for tokens, ratio in measured if ratio >= level]
    if len(above) == len(measured) and above:
        return "at every length measured"
    if not above:
        return "at no length measured"
    if found is None:
        return f"at {in_words([f'{tokens:,}' for tokens in above])} tokens, and not at the longest"
    digits = max(len(str(int(found))) - 2, 0)
    return f"from about {round(found, -digits):,.0f} tokens"


def verdict(results: dict[str, Any], task: str) -> str:
    """What the measurements say about one task, as a sentence or two."""
    found = [(point.tokens, point.ratio) for point in points(results, task)]
    if not found:
        return f"**{WHAT[task].capitalize()}**: not measured."
    (first, low), (last, high) = found[0], found[-1]
    low_claim, high_claim = CLAIMED
    sentence = (
        f"**{WHAT[task].capitalize()}**: {low:.2f} times as fast at {first:,} tokens, {high:.2f} times at {last:,}. "
        f"Faster than attention alone {where_it_holds(found, 1.0)}; {low_claim - 1:.0%} faster "
        f"{where_it_holds(found, low_claim)}, {high_claim - 1:.0%} faster {where_it_holds(found, high_claim)}."
    )
    slower = [tokens for tokens, ratio in found if ratio < 1]
    return sentence + (f" Slower at {in_words([f'{each:,}' for each in slower])} tokens." if slower else "")


def memory_verdict(results: dict[str, Any]) -> str:
    """What one sequence keeps in memory, short and long."""
    found = [
        point
        for point in points(results, "decode")
        if point.hybrid.get("conversation_bytes") and point.attention.get("conversation_bytes")
    ]
    if not found:
        return "**Memory of a sequence**: not measured."
    said = []
    for point in [found[0], found[-1]][: len(found)]:
        kept, other = point.hybrid["conversation_bytes"] / 2**20, point.attention["conversation_bytes"] / 2**20
        said.append(f"{kept:.1f} MiB at {point.tokens:,} tokens, where attention alone keeps {other:.1f}")
    return f"**Memory of a sequence**: {'; '.join(said)}. Of the hybrid's, the Mamba layers' share does not grow."


def in_words(names: Sequence[str]) -> str:
    """A list in a sentence.

    >>> in_words(["a"]), in_words(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
