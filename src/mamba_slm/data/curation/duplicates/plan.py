"""What a search for duplicates needs on another number of documents, from a search that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.runs import HELD_BYTES, ranges_needed

PROCESS_BYTES = 100 << 20
"""Python, numpy, the character table and a batch of texts."""

BYTES_PER_HELD_BYTE = 1.5
"""How far a task goes beyond `memory_bytes` at its peak, as measured."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSearch:
    """A search that was run to its end."""

    documents: int
    text_bytes: int
    stage_seconds: Mapping[str, float]
    """Of one core, by stage."""

    stage_bytes: Mapping[str, int]
    """On disk, by stage."""

    slice_seconds: float
    """To find and read one range of keys in one run, where there are thousands of both."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search as large as wanted; `str` is a table.

    Stages grow as the documents do, as if a part of the corpus held the same share of duplicates as the whole; only the
    reading of runs grows as runs × ranges. More documents hold more duplicates, so candidates are a lower estimate.
    """

    measured: MeasuredSearch
    documents: int
    workers: int
    config: DuplicatesConfig

    @property
    def scale(self) -> float:
        """How many times as many documents."""
        return self.documents / self.measured.documents

    @property
    def num_records(self) -> int:
        """Band keys."""
        return self.documents * self.config.bands

    @property
    def num_runs(self) -> int:
        """Sorted runs of band keys."""
        return max(1, self.num_records * HELD_BYTES * 2 // self.config.memory_bytes)

    @property
    def num_ranges(self) -> int:
        """Tasks that match band keys."""
        return ranges_needed(self.num_records, self.config.memory_bytes)

    @property
    def slice_seconds(self) -> float:
        """Of one core: finding each range in each run."""
        return self.num_runs * self.num_ranges * self.measured.slice_seconds

    @property
    def core_seconds(self) -> float:
        """Of one core, all stages."""
        return sum(self.measured.stage_seconds.values()) * self.scale + self.slice_seconds

    @property
    def wall_seconds(self) -> float:
        """With all workers; resolving is one task."""
        alone = self.measured.stage_seconds.get("resolved", 0.0) * self.scale
        return (self.core_seconds - alone) / self.workers + alone

    @property
    def worker_bytes(self) -> float:
        """Memory of one worker at its peak, whatever the corpus."""
        return PROCESS_BYTES + BYTES_PER_HELD_BYTE * self.config.memory_bytes

    @property
    def disk_bytes(self) -> float:
        """Of the work folder at the end."""
        return sum(self.measured.stage_bytes.values()) * self.scale

    @property
    def bytes_per_second(self) -> float:
        """Text per second of one core, from the first reading to the verdicts."""
        return self.measured.text_bytes * self.scale / self.core_seconds

    def __str__(self) -> str:
        rows = [("stage", "one core", "on disk")]
        for stage, seconds in self.measured.stage_seconds.items():
            disk = self.measured.stage_bytes.get(stage, 0) * self.scale
            rows.append((stage, format_seconds(seconds * self.scale), format_bytes(disk)))
        rows.append((f"{self.num_runs:,} runs x {self.num_ranges:,} ranges", format_seconds(self.slice_seconds), ""))
        rows.append(("all", format_seconds(self.core_seconds), format_bytes(self.disk_bytes)))
        lines = [f"{stage:<32}{seconds:>12}{disk:>12}".rstrip() for stage, seconds, disk in rows]
        text = format_bytes(self.measured.text_bytes * self.scale)
        return "\n".join(
            [
                f"{format_count(self.documents)} documents, {text} of text",
                *lines,
                f"{self.workers} workers: {format_seconds(self.wall_seconds)}, {format_bytes(self.worker_bytes)} each",
                f"scaled from {format_count(self.measured.documents)} documents that were measured",
            ]
        )
