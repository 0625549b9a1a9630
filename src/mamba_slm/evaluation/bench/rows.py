"""From the seconds of the rounds to the results of a contender. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from mamba_slm.evaluation.bench.names import OURS


def row_of(
    name: str,
    seconds: dict[str, list[float]],
    rates: Sequence[float | None],
    *,
    work: float,
    tokens: int,
    limit: str,
    memory: dict[str, Any],
) -> dict[str, Any]:
    """The results of one contender.

    Ratios are medians over the rounds that both took part in, so that a slow moment counts on both sides.

    Args:
        name: a key of `seconds`, which has those of every round of every contender.
        rates: of the machine, in every round of this contender; None where nothing was measured.
        work: FLOPs or bytes of a token.
        limit: what the rates are of, stored.
    """
    own = seconds[name]
    shares = [tokens * work / mine / rate for mine, rate in zip(own, rates, strict=False) if rate is not None]
    return {
        "contender": name,
        "tokens_per_second": tokens / statistics.median(own),
        "seconds_by_round": own,
        "work_per_token": work,
        "limit": limit,
        "share_of_machine": statistics.median(shares) if shares else None,
        "ours_times_as_fast": statistics.median(
            theirs / ours for ours, theirs in zip(seconds[OURS], own, strict=False)
        ),
        **memory,
    }
