"""Candidate pairs: documents that share all MinHash values of a band."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.kernels import KernelChoice, Kernels, kernels
from mamba_slm.data.curation.duplicates.runs import HELD_BYTES, Records, Run, groups_of, pieces, read_records
from mamba_slm.data.curation.duplicates.signing import SignedParts, order_by_rank

PAIR_BYTES = 64
"""A pair in memory, with what sorting needs."""

FEW_NEIGHBOURS = 32

Pairs = NDArray[np.uint64]


def find_pairs(
    runs: Sequence[Run],
    keys: tuple[int, int],
    copies: Sequence[Path],
    signed: SignedParts,
    out: Path,
    config: DuplicatesConfig,
    kernel: KernelChoice,
) -> None:
    """Write the pairs of a range of keys, each once: files `pairs-*.npy`, sorted, with `locations-*.npy` beside them.

    Args:
        copies: per part the folder with its exact copies, which take no part.
    """
    is_copy = functools.partial(is_in, tuple(copies))
    with folder_written_atomically(out) as folder:
        waiting: list[Pairs] = []
        held = written = left_out = 0

        def flush() -> None:
            nonlocal waiting, held, written
            pairs = unique_pairs(np.concatenate(waiting)) if waiting else np.zeros((0, 2), np.uint64)
            np.save(folder / f"pairs-{written:03d}.npy", pairs)
            np.save(folder / f"locations-{written:03d}.npy", np.unique(pairs))
            waiting, held, written = [], 0, written + 1

        for records in records_of(runs, keys, is_copy, config, kernels(kernel)):
            for pairs, missing in pairs_of(records, signed, config):
                waiting.append(pairs)
                left_out += missing
                held += len(pairs) * PAIR_BYTES
                if held > config.memory_bytes:
                    flush()
        if waiting or not written:
            flush()
        write_json_atomic(folder / "summary.json", {"not_compared": left_out})


def records_of(
    runs: Sequence[Run],
    keys: tuple[int, int],
    is_copy: Callable[[int, NDArray[np.uint32]], NDArray[np.bool_]],
    config: DuplicatesConfig,
    use: Kernels,
) -> Iterator[Records]:
    """The records of a range of keys, as many at once as fit into the memory.

    A single key with more than that is cut by the key of the next band.
    """
    for first, last in pieces(runs, *keys, config.memory_bytes):
        cuts = 1
        if first == last:
            count = sum(len(read_records([run], first, last, use, is_left_out=is_copy).keys) for run in runs)
            cuts = max(1, -(-count * HELD_BYTES // config.memory_bytes))
        for i in range(cuts):
            span = (i << 32) // cuts, ((i + 1) << 32) // cuts - 1
            yield read_records(runs, first, last, use, is_left_out=is_copy, next_range=span)


def is_in(copies: tuple[Path, ...], part: int, indices: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which documents of a part are exact copies."""
    return np.array(np.load(copies[part] / "is_copy.npy", mmap_mode="r")[indices])


def unique_pairs(pairs: Pairs) -> Pairs:
    """Each pair once, in ascending order."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    new = np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)]) if len(pairs) else np.zeros(0, bool)
    return pairs[new]


def pairs_of(records: Records, signed: SignedParts, config: DuplicatesConfig) -> Iterator[tuple[Pairs, int]]:
    """Pairs within groups of equal keys, the smaller location first, and how many pairs of large ones are left out."""
    starts, sizes = groups_of(records.keys)
    for size in np.unique(sizes).tolist():
        of_size = starts[sizes == size]
        if size > config.group_limit:
            for start in of_size.tolist():
                yield from pairs_of_large_group(records, slice(start, start + size), signed, config)
            continue
        left, right = np.triu_indices(size, 1)
        step = max(1, config.memory_bytes // (PAIR_BYTES * len(left)))
        for begin in range(0, len(of_size), step):
            members = records.locations[of_size[begin : begin + step, None] + np.arange(size)]
            yield sorted_sides(members[:, left].ravel(), members[:, right].ravel()), 0


def pairs_of_large_group(
    records: Records, group: slice, signed: SignedParts, config: DuplicatesConfig
) -> Iterator[tuple[Pairs, int]]:
    """Each document with the best-ranked one, and with its next neighbours when sorted by the key of another band.

    Who shares a second band comes to stand together. So the work grows as the size, not as its square; the order
    depends on nothing but the documents.
    """
    locations, nexts = records.locations[group], records.nexts[group]
    size = len(locations)
    rank = signed.rows(locations)["rank"]
    best = order_by_rank(rank)[0]
    others = np.delete(np.arange(size), best)
    yield sorted_sides(locations[[best]].repeat(size - 1), locations[others]), size * (size - 1) // 2 - (size - 1)
    locations = locations[np.lexsort((rank[:, 1], rank[:, 0], nexts))]
    for distance in range(1, neighbours_in(size, config) + 1):
        yield sorted_sides(locations[:-distance], locations[distance:]), distance - size


def neighbours_in(size: int, config: DuplicatesConfig) -> int:
    """With how many of the next each document of a large group is compared: as many pairs as in a group at the limit,
    but a few in any case."""
    return max(min(FEW_NEIGHBOURS, config.group_limit // 2), config.group_limit**2 // (2 * size))


def sorted_sides(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Pairs:
    """[pairs, 2] with the smaller location first."""
    return np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
