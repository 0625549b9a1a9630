"""What a run will take, from what stages have taken before; and afterwards how right that was."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DiskFullError
from mamba_slm.core.units import format_bytes, format_seconds


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage takes per byte of the run's input."""

    stage: str
    seconds_per_byte: float
    """Of one worker."""
    written_per_byte: float
    """Bytes that stay until the run is over."""
    is_parallel: bool = True
    """Whether more workers make it faster."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run takes: expected before it, measured after it."""

    seconds: Mapping[str, float]
    """Of each stage, by the clock."""
    written: Mapping[str, int]
    """Bytes of each stage."""
    workers: int

    @property
    def total_seconds(self) -> float:
        """Of all stages."""
        return sum(self.seconds.values())

    @property
    def total_bytes(self) -> int:
        """Of all stages."""
        return sum(self.written.values())

    def __str__(self) -> str:
        workers = f"{self.workers} worker" + "s" * (self.workers != 1)
        return f"{format_seconds(self.total_seconds)} with {workers}, {format_bytes(self.total_bytes)} written"


def estimated(costs: Iterable[StageCost], *, input_bytes: int, workers: int) -> Estimate:
    """What a run over so many bytes takes, if it is as the costs say."""
    costs = tuple(costs)
    return Estimate(
        seconds={
            cost.stage: cost.seconds_per_byte * input_bytes / (workers if cost.is_parallel else 1) for cost in costs
        },
        written={cost.stage: round(cost.written_per_byte * input_bytes) for cost in costs},
        workers=workers,
    )


def measured(entries: Iterable[Mapping[str, Any]], *, workers: int) -> Estimate:
    """What the tasks in a manifest took; by the clock, if all workers were busy.

    Args:
        entries: of `read_manifest`; of two for one task the last counts.
    """
    last = {(entry["stage"], entry["task"]): entry for entry in entries if entry["state"] == "done"}
    seconds: dict[str, float] = {}
    written: dict[str, int] = {}
    tasks: dict[str, int] = {}
    for (stage, _), entry in last.items():
        seconds[stage] = seconds.get(stage, 0.0) + entry["seconds"]
        written[stage] = written.get(stage, 0) + entry["bytes"]
        tasks[stage] = tasks.get(stage, 0) + 1
    shared = {stage: spent / min(workers, tasks[stage]) for stage, spent in seconds.items()}
    return Estimate(seconds=shared, written=written, workers=workers)


def costs_of(found: Estimate, *, input_bytes: int) -> list[StageCost]:
    """The costs that a run had, for the estimate of the next one."""
    return [
        StageCost(
            stage=stage,
            seconds_per_byte=seconds * found.workers / max(1, input_bytes),
            written_per_byte=found.written[stage] / max(1, input_bytes),
        )
        for stage, seconds in found.seconds.items()
    ]


def compared(before: Estimate, after: Estimate) -> Sequence[tuple[str, str, str, str, str]]:
    """Rows for a table: stage, seconds expected and taken, bytes expected and written; the last row is the total."""
    stages = [*before.seconds, *(stage for stage in after.seconds if stage not in before.seconds)]

    def row(name: str, *values: float | None) -> tuple[str, str, str, str, str]:
        texts = [
            "-" if value is None else write(value)
            for value, write in zip(values, [format_seconds] * 2 + [format_bytes] * 2, strict=True)
        ]
        return (name, *texts)  # type: ignore[return-value]

    rows = [
        row(
            stage,
            before.seconds.get(stage),
            after.seconds.get(stage),
            before.written.get(stage),
            after.written.get(stage),
        )
        for stage in stages
    ]
    return [*rows, row("all", before.total_seconds, after.total_seconds, before.total_bytes, after.total_bytes)]


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what will not fit.

    Raises:
        DiskFullError: less than that is free where the folder is, or will be.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise DiskFullError(
            f"about {format_bytes(needed_bytes)} will be written to {folder}, where {format_bytes(free)} are free",
            hint="free some space, or choose another folder with --out",
        )
