"""From the requests of a level to its figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mamba_slm.evaluation.load.sample import Sample

PERCENTILES = (50, 90, 95, 99)


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """Between the two nearest, linearly, as numpy's default.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50), percentile([5.0], 99)
    (2.5, 5.0)
    """
    place = (len(sorted_values) - 1) * percent / 100
    below, above = math.floor(place), math.ceil(place)
    return sorted_values[below] + (sorted_values[above] - sorted_values[below]) * (place - below)


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, percentiles and the largest, in the unit of the values; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    named = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}
    return {"mean": sum(ordered) / len(ordered), **named, "max": ordered[-1]}


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures of the requests of one level; all times in seconds.

    Speeds count the tokens of requests that were answered to their end, over the time from the first request to the
    last answer, failed ones included. ttft: from sending to the first token; itl: between one event of a stream and the
    next; tpot: of a request, from its first token to its end, per token; e2e: from sending to the end.
    """
    good = [sample for sample in samples if sample.error is None]
    seconds = max((sample.ended for sample in samples), default=0.0) - min((s.sent for s in samples), default=0.0)
    prompt, cached, new = (
        sum(getattr(sample, name) for sample in good) for name in ("prompt_tokens", "cached_tokens", "new_tokens")
    )
    per_token = [sample.seconds_per_token for sample in good]
    return {
        "requests": len(samples),
        "answered": len(good),
        "errors": dict(Counter(sample.error for sample in samples if sample.error is not None).most_common()),
        "seconds": seconds,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "new_tokens": new,
        "requests_per_second": len(good) / seconds if seconds else 0.0,
        "new_tokens_per_second": new / seconds if seconds else 0.0,
        "total_tokens_per_second": (prompt + new) / seconds if seconds else 0.0,
        "ttft": spread([sample.first_seconds for sample in good]),
        "itl": spread([gap for sample in good for gap in sample.gaps]),
        "tpot": spread([each for each in per_token if each is not None]),
        "e2e": spread([sample.whole_seconds for sample in good]),
        "late": spread([sample.sent - sample.due for sample in samples]),
    }
