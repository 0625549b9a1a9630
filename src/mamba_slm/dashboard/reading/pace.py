"""How fast earlier runs were on this computer, which says more about the next one than any data sheet."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from typing import Any

from mamba_slm.dashboard.reading.facts import record_of
from mamba_slm.runs.evidence import number
from mamba_slm.runs.layout import RunDirectory

MOST_RUNS = 20


def pace_here(runs: Sequence[RunDirectory]) -> tuple[float | None, int]:
    """FLOP/s that finished trainings reached on a machine like this one (median), and how many of them there are."""
    rates = []
    for run in runs:
        record = record_of(run)
        if record is None or record.hardware.get("system") != f"{platform.system()} {platform.release()}":
            continue
        result, estimate = record.result or {}, record.estimate or {}
        tokens, seconds = number(result, "tokens"), number(result, "seconds")
        flops = number(estimate, "flops_per_token")
        if tokens and seconds and flops and record.kind == "train":
            rates.append(tokens / seconds * flops)
        if len(rates) == MOST_RUNS:
            break
    return (statistics.median(rates), len(rates)) if rates else (None, 0)


def with_pace(estimate: dict[str, Any], runs: Sequence[RunDirectory]) -> dict[str, Any]:
    """The estimate with times from earlier runs here, where it has none of its own."""
    rate, count = pace_here(runs)
    if estimate["seconds"] is not None or rate is None:
        return estimate
    tokens = estimate["tokens"]
    per_second = rate / estimate["flops_per_token"]
    return estimate | {
        "tokens_per_second": per_second,
        "seconds": None if tokens is None else tokens / per_second,
        "how": f"time: the median pace of {count} earlier {'run' if count == 1 else 'runs'} on this computer",
    }
