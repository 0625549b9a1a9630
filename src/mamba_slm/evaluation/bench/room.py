"""Whether a contender fits into memory: a forecast from what it took at shorter lengths in the same run. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.names import OURS

SPARE_SHARE = 0.06
"""Of the memory that is available: left to the system, and to what the forecast does not know."""


@dataclass(frozen=True, kw_only=True)
class Seating:
    """Which contenders of a cell are loaded at the same time."""

    together: tuple[str, ...]
    """Timed in turns."""

    apart: tuple[str, ...] = ()
    """Measured one after the other when the rest have ended: they fit into memory alone."""

    left_out: dict[str, str] = field(default_factory=dict)
    """They do not even fit alone, with the reason."""


def seating(
    names: Sequence[str], cell: Cell, measured: Iterable[dict[str, Any]], available_bytes: int | None
) -> Seating:
    """Who fits into memory beside whom, by what contenders took in earlier cells that differ in length only.

    Ours keeps its freed memory in training (core/allocator.py), the others give it back, so a contender needs its own
    peak, that of ours, and what the rest have loaded.
    """
    if available_bytes is None:
        return Seating(together=tuple(names))
    earlier = [row | {"tokens": each["tokens"]} for each in measured if is_alike(each, cell) for row in each["rows"]]
    peaks = {name: forecast_peak([row for row in earlier if row["contender"] == name], cell.tokens) for name in names}
    loaded = {row["contender"]: row["loaded_bytes"] for row in earlier}
    room = available_bytes * (1 - SPARE_SHARE)
    together, apart, left_out = [], [], {}
    for name in names:
        peak = peaks[name]
        ours = (peaks.get(OURS) or 0.0) if cell.task == "train" else loaded.get(OURS, 0)
        rest = sum(loaded.get(other, 0) for other in names if other not in (name, OURS))
        if name == OURS or peak is None or peak + ours + rest <= room:
            together.append(name)
        elif peak <= room:
            apart.append(name)
        else:
            left_out[name] = (
                f"memory: {peak / 2**30:.1f} GiB forecast from shorter lengths, {available_bytes / 2**30:.1f} available"
            )
    return Seating(together=tuple(together), apart=tuple(apart), left_out=left_out)


def is_alike(measured: dict[str, Any], cell: Cell) -> bool:
    """Whether a measured cell differs in length only."""
    return [measured[key] for key in ("task", "precision", "batch")] == [cell.task, cell.precision, cell.batch]


def forecast_peak(rows: Sequence[dict[str, Any]], tokens: int) -> float | None:
    """Peak memory at a length: along a line through the two longest that were measured, or through the only one."""
    known = sorted((row["tokens"], row["peak_bytes"], row["loaded_bytes"]) for row in rows)
    if not known:
        return None
    longest, peak, loaded = known[-1]
    before, peak_before = known[-2][:2] if len(known) > 1 else (0, loaded)
    growth = max(0.0, (peak - peak_before) / max(longest - before, 1))
    return peak + growth * max(tokens - longest, 0)


def available_memory() -> int | None:
    """Bytes that programs may still take; None where the system does not say."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return None
    line = next((line for line in info.read_text().splitlines() if line.startswith("MemAvailable:")), None)
    return None if line is None else int(line.split()[1]) * 1024
