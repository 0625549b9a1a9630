"""The second reading of a part: the shingle sets of the documents that are compared."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import folder_written_atomically
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.constants import RAW_SEED
from mamba_slm.data.curation.duplicates.kernels import KernelChoice, ShingleSets, kernels
from mamba_slm.data.curation.duplicates.parts import Part
from mamba_slm.data.curation.duplicates.portable import starts_of
from mamba_slm.data.curation.duplicates.runs import Locations, index_of, part_of, rows_of_part
from mamba_slm.data.curation.duplicates.signing import BATCH_BYTES, DOCUMENT

HELD_CANDIDATES = 1 << 22
CHANGED_HINT = "files have to stay as they are until the duplicates are found; delete the work folder and start again"


def candidates_of(matched: Sequence[Path], part: int) -> NDArray[np.int64]:
    """The numbers of the documents of a part that are in any pair, ascending."""
    waiting, held = [np.zeros(0, np.int64)], 0
    for folder in matched:
        for path in sorted(folder.glob("locations-*.npy")):
            locations = np.load(path, mmap_mode="r")
            waiting.append(index_of(np.array(locations[rows_of_part(locations, part)])))
            held += len(waiting[-1])
            if held > HELD_CANDIDATES:
                waiting, held = [np.unique(np.concatenate(waiting))], 0
    return np.unique(np.concatenate(waiting))


def extract_part(
    part: Part, number: int, signed: Path, matched: Sequence[Path], out: Path, kernel: KernelChoice
) -> None:
    """Write the shingle sets of the candidates of a part: their numbers, their ends, and the hashes.

    Raises:
        DataError: the part is not what it was at the first reading.
    """
    wanted = candidates_of(matched, number)
    use = kernels(kernel)
    expected = np.memmap(signed / "documents.bin", DOCUMENT, "r")["raw"] if len(wanted) else np.zeros((0, 2))
    with folder_written_atomically(out) as folder, (folder / "shingles.bin").open("wb") as shingles:
        np.save(folder / "indices.npy", wanted.astype(np.uint32))
        sizes, seen = [np.zeros(0, np.int64)], 0
        for batch in part.batches(BATCH_BYTES) if len(wanted) else ():
            here = wanted[np.searchsorted(wanted, seen) : np.searchsorted(wanted, seen + len(batch))]
            texts = Texts.of([batch.texts.bytes_of(index - seen) for index in here.tolist()])
            if not np.array_equal(use.hash_bytes(texts, RAW_SEED), expected[here]):
                raise DataError(f"{part.name} has changed since its first reading", hint=CHANGED_HINT)
            sets = use.shingles(texts)
            sets.values.tofile(shingles)
            sizes.append(sets.sizes())
            seen += len(batch)
        np.save(folder / "ends.npy", np.cumsum(np.concatenate(sizes)))
        if seen != len(expected):
            raise DataError(f"{part.name} had {len(expected):,} documents and now has {seen:,}", hint=CHANGED_HINT)


@dataclass(frozen=True, kw_only=True)
class ExtractedParts:
    """The shingle sets that `extract_part` has left, by location."""

    folders: tuple[Path, ...]

    def sizes(self, locations: Locations) -> NDArray[np.int64]:
        """How many shingles each of these documents has."""
        out = np.zeros(len(locations), np.int64)
        parts = part_of(locations)
        for part in np.unique(parts).tolist():
            starts, ends = self.spans(part, index_of(locations[parts == part]))
            out[parts == part] = ends - starts
        return out

    def sets(self, locations: Locations) -> ShingleSets:
        """The sets of documents in ascending order of their locations."""
        values, sizes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        parts = part_of(locations)
        for part in np.unique(parts).tolist():
            starts, ends = self.spans(part, index_of(locations[parts == part]))
            sizes.append(ends - starts)
            values += read_spans(self.folders[part] / "shingles.bin", starts, ends)
        return ShingleSets(values=np.concatenate(values), offsets=starts_of(np.concatenate(sizes)))

    def spans(self, part: int, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the shingles of these documents start and end in the part's file."""
        known, ends = opened_index(self.folders[part])
        where = np.searchsorted(known, indices)
        return np.where(where > 0, ends[where - 1], 0), ends[where]


def opened_index(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a part's candidates, and where their shingles end; kept in memory."""
    return index_as_of(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def index_as_of(folder: Path, time: int) -> tuple[np.ndarray, np.ndarray]:
    """As `opened_index`, of the folder that was made at that time."""
    return np.load(folder / "indices.npy"), np.load(folder / "ends.npy")


def read_spans(path: Path, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[NDArray[np.uint64]]:
    """Spans of a file of 64-bit numbers, those that touch read together."""
    apart = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = starts[np.append(0, apart + 1)], ends[np.append(apart, len(ends) - 1)]
    with path.open("rb", buffering=0) as file:
        out = []
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            file.seek(first * 8)
            out.append(np.fromfile(file, np.uint64, last - first))
    return out
