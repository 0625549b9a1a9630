"""Exact duplicates: the same words in the same order, or the same bytes; the best-ranked copy represents them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mamba_slm.core.files import folder_written_atomically
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.kernels import KernelChoice, kernels
from mamba_slm.data.curation.duplicates.portable import position_in_run
from mamba_slm.data.curation.duplicates.runs import (
    PART_SHIFT,
    Run,
    groups_of,
    index_of,
    pieces,
    read_records,
    rows_of_part,
)
from mamba_slm.data.curation.duplicates.signing import DOCUMENT, LOCAL_COPY, SignedParts, representatives

COPY = np.dtype([("removed", "<u8"), ("kept", "<u8")])
"""A copy and its representative, by location."""


def find_copies(
    runs: Sequence[Run],
    keys: tuple[int, int],
    signed: SignedParts,
    out: Path,
    config: DuplicatesConfig,
    kernel: KernelChoice,
) -> None:
    """Write the copies whose content hash starts with a key of the range, as `COPY` rows by location.

    The runs hold one of the equal documents of each chunk (`signing.py`).
    """
    found = [np.zeros(0, COPY)]
    for first, last in pieces(runs, *keys, config.memory_bytes):
        records = read_records(runs, first, last, kernels(kernel))
        starts, sizes = groups_of(records.keys)
        found.append(copies_among(records.locations[np.repeat(starts, sizes) + position_in_run(sizes)], signed))
    with folder_written_atomically(out) as folder:
        np.save(folder / "copies.npy", np.sort(np.concatenate(found), order="removed"))


def copies_among(locations: np.ndarray, signed: SignedParts) -> np.ndarray:
    """The copies among documents, by their full hashes."""
    _, removed, kept = representatives(signed.rows(locations), then=locations)
    out = np.zeros(len(removed), COPY)
    out["removed"], out["kept"] = locations[removed], locations[kept]
    return out


def copies_of_part(ranges: Sequence[Path], part: int, signed: SignedParts, out: Path) -> None:
    """Every copy of one part with its representative among all parts, as `COPY` rows by location; and for each
    document whether it is one."""
    found = [np.zeros(0, COPY)]
    for path in ranges:
        rows = np.load(path / "copies.npy", mmap_mode="r")
        found.append(np.array(rows[rows_of_part(rows["removed"], part)]))
    across = np.sort(np.concatenate(found), order="removed")
    within = np.fromfile(signed.folders[part] / "copies.bin", LOCAL_COPY)
    local = np.zeros(len(within), COPY)
    here = np.uint64(part) << PART_SHIFT
    local["removed"], local["kept"] = within["removed"] | here, within["kept"] | here
    local["kept"] = replaced(local["kept"], across["removed"], across["kept"])
    copies = np.sort(np.concatenate([across, local]), order="removed")
    is_copy = np.zeros((signed.folders[part] / "documents.bin").stat().st_size // DOCUMENT.itemsize, bool)
    is_copy[index_of(copies["removed"])] = True
    with folder_written_atomically(out) as folder:
        np.save(folder / "copies.npy", copies)
        np.save(folder / "is_copy.npy", is_copy)


def replaced(values: np.ndarray, known: np.ndarray, by: np.ndarray) -> np.ndarray:
    """`values`, those that are in `known` (ascending) replaced by the entry of `by` at their place."""
    if not len(known):
        return values
    where = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[where] == values, by[where], values)


def same_bytes(copies: np.ndarray, signed: SignedParts) -> np.ndarray:
    """Whether each copy has the very bytes of its representative, not only its words."""
    raw, of_kept = signed.rows(copies["removed"])["raw"], signed.rows(copies["kept"])["raw"]
    return (raw == of_kept).all(axis=1)
