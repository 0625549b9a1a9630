"""Sorted runs of (hash, document): the shuffle between the parts, and what finds equal hashes in bounded memory.

A run is three files: keys in ascending order, and for each the document's number in its part and 32 further bits. As
keys are hashes they are spread evenly, so any range of them is a slice of every run, found by bisection. A document of
the whole corpus is named by its location, part << 32 | number in the part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.duplicates.kernels import Kernels

PART_SHIFT = np.uint64(32)
LAST_KEY = (1 << 64) - 1
RECORD_BYTES = 16
"""A record on disk."""

HELD_BYTES = 64
"""A record in memory, with what sorting it needs."""

Locations = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one part."""

    part: int
    stem: Path

    def array(self, column: str, dtype: str) -> np.ndarray:
        """A column, mapped: only what is read comes into memory."""
        path = self.stem.with_suffix(f".{column}")
        return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where the keys from `first` to `last`, both included, are."""
        keys = self.array("keys", "<u8")
        start, end = np.searchsorted(keys, np.uint64(first), "left"), np.searchsorted(keys, np.uint64(last), "right")
        return int(start), int(end)


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records of several runs, by key in ascending order; equal keys in the order of the runs."""

    keys: NDArray[np.uint64]
    locations: Locations
    nexts: NDArray[np.uint32]


class RunWriter:
    """Collects records of one part and writes them as sorted runs STEM-000, STEM-001, … in `folder`."""

    def __init__(self, folder: Path, name: str, use: Kernels, *, memory_bytes: int):
        self.folder, self.name, self.use = folder, name, use
        self.limit = max(1, memory_bytes // HELD_BYTES)
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.held = self.written = 0

    def append(self, keys: NDArray[np.uint64], indices: NDArray[np.uint32], nexts: NDArray[np.uint32]) -> None:
        """Add records in any order."""
        self.waiting.append((keys, indices, nexts))
        self.held += len(keys)
        if self.held >= self.limit:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one more run."""
        if not self.held:
            return
        keys, indices, nexts = (np.concatenate(column) for column in zip(*self.waiting, strict=True))
        self.waiting, self.held = [], 0
        order = self.use.sort(keys)
        stem = self.folder / f"{self.name}-{self.written:03d}"
        for column, values in (("keys", keys), ("index", indices[order]), ("next", nexts[order])):
            values.tofile(stem.with_suffix(f".{column}"))
        self.written += 1


def runs_of(folder: Path, part: int, name: str) -> list[Run]:
    """The runs that a `RunWriter` has left."""
    return [Run(part=part, stem=path.with_suffix("")) for path in sorted(folder.glob(f"{name}-*.keys"))]


def key_ranges(count: int) -> list[tuple[int, int]]:
    """All keys, cut into `count` ranges of the same width: first and last key of each."""
    bounds = [(i << 64) // count for i in range(count + 1)]
    return [(start, end - 1) for start, end in itertools.pairwise(bounds)]


def ranges_needed(num_records: int, memory_bytes: int) -> int:
    """In how many ranges the keys are cut so that the records of each fit into the memory, with some to spare."""
    return max(1, -(-num_records * HELD_BYTES * 5 // (memory_bytes * 4)))


def pieces(runs: Sequence[Run], first: int, last: int, memory_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut a range further where its keys are not spread evenly. A single key is never cut."""
    held = sum(end - start for run in runs for start, end in [run.span(first, last)]) * HELD_BYTES
    if held <= memory_bytes or first == last:
        yield first, last
        return
    middle = (first + last) // 2
    yield from pieces(runs, first, middle, memory_bytes)
    yield from pieces(runs, middle + 1, last, memory_bytes)


def read_records(
    runs: Sequence[Run],
    first: int,
    last: int,
    use: Kernels,
    *,
    is_left_out: Callable[[int, NDArray[np.uint32]], NDArray[np.bool_]] | None = None,
    next_range: tuple[int, int] = (0, (1 << 32) - 1),
) -> Records:
    """The records of a range of keys, of all runs.

    Args:
        is_left_out: given a part and document numbers, which of them are not wanted.
        next_range: of the 32 further bits, the first and last value that are wanted.
    """
    keys, locations, nexts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
    for run in runs:
        start, end = run.span(first, last)
        if start == end:
            continue
        indices = np.array(run.array("index", "<u4")[start:end])
        these = np.array(run.array("next", "<u4")[start:end])
        wanted = (these >= next_range[0]) & (these <= next_range[1])
        if is_left_out is not None:
            wanted &= ~is_left_out(run.part, indices)
        keys.append(np.array(run.array("keys", "<u8")[start:end])[wanted])
        locations.append(indices[wanted].astype(np.uint64) | np.uint64(run.part) << PART_SHIFT)
        nexts.append(these[wanted])
    all_keys = np.concatenate(keys)
    order = use.sort(all_keys)
    return Records(keys=all_keys, locations=np.concatenate(locations)[order], nexts=np.concatenate(nexts)[order])


def groups_of(keys: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of two or more equal keys start, and how long they are."""
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sizes = np.diff(np.append(starts, len(keys)))
    return starts[sizes > 1], sizes[sizes > 1]


def part_of(locations: Locations) -> NDArray[np.int64]:
    """The part of each location."""
    return (locations >> PART_SHIFT).astype(np.int64)


def index_of(locations: Locations) -> NDArray[np.int64]:
    """The number within its part of each location."""
    return (locations & np.uint64(0xFFFFFFFF)).astype(np.int64)


def rows_of_part(sorted_locations: Locations, part: int) -> slice:
    """Which of locations in ascending order belong to a part."""
    first = part << 32
    start, end = np.searchsorted(sorted_locations, np.array([first, first + (1 << 32)], np.uint64))
    return slice(int(start), int(end))
