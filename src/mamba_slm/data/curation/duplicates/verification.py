"""Candidate pairs become edges: only those whose Jaccard similarity, counted exactly, reaches the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.extracting import ExtractedParts
from mamba_slm.data.curation.duplicates.kernels import KernelChoice, Kernels, kernels
from mamba_slm.data.curation.duplicates.matching import PAIR_BYTES, Pairs, unique_pairs
from mamba_slm.data.curation.duplicates.signing import SignedParts

EDGE = np.dtype(
    [
        *[("better", "<u8"), ("worse", "<u8"), ("better_rank", "<u8", 2), ("worse_rank", "<u8", 2)],
        *[("shared", "<u4"), ("either", "<u4")],
    ]
)
"""Two near-duplicates by location, with their ranks, the shingles that both have and those that either has."""


def verify_part(
    number: int,
    matched: Sequence[Path],
    signed: SignedParts,
    extracted: ExtractedParts,
    out: Path,
    config: DuplicatesConfig,
    kernel: KernelChoice,
) -> None:
    """Write the edges of all pairs whose smaller location is in a part: `edges.bin`."""
    use = kernels(kernel)
    compared = 0
    with folder_written_atomically(out) as folder, (folder / "edges.bin").open("wb") as file:
        for pairs in pairs_from(number, matched, config.memory_bytes):
            compared += len(pairs)
            for some in in_pieces(pairs, extracted, config.memory_bytes):
                edges_of(some, signed, extracted, config, use).tofile(file)
        file.flush()
        write_json_atomic(folder / "summary.json", {"compared": compared})


def pairs_from(number: int, matched: Sequence[Path], memory_bytes: int) -> Iterator[Pairs]:
    """The pairs whose smaller location is in a part, each once, sorted, as many at a time as fit into the memory."""
    paths = [path for folder in matched for path in sorted(folder.glob("pairs-*.npy"))]

    def within(first: int, last: int) -> Iterator[Pairs]:
        count = sum(
            end - start for path in paths for start, end in [span_in(np.load(path, mmap_mode="r"), first, last)]
        )
        if count * PAIR_BYTES > memory_bytes and last - first > 1:
            middle = (first + last) // 2
            yield from within(first, middle)
            yield from within(middle, last)
        elif count:
            found = []
            for path in paths:  # one open at a time: there may be more than a process may open
                pairs = np.load(path, mmap_mode="r")
                found.append(np.array(pairs[slice(*span_in(pairs, first, last))]))
            yield unique_pairs(np.concatenate(found))

    yield from within(number << 32, (number + 1) << 32)


def span_in(pairs: Pairs, first: int, last: int) -> tuple[int, int]:
    """Where the pairs are whose smaller location is at least `first` and less than `last`."""
    start, end = np.searchsorted(pairs[:, 0], np.array([first, last], np.uint64))
    return int(start), int(end)


def in_pieces(pairs: Pairs, extracted: ExtractedParts, memory_bytes: int) -> Iterator[Pairs]:
    """Pairs in runs whose documents' shingles fit into the memory together."""
    locations = np.unique(pairs)
    held = int(extracted.sizes(locations).sum()) * 16
    if held <= memory_bytes or len(pairs) == 1:
        yield pairs
        return
    yield from in_pieces(pairs[: len(pairs) // 2], extracted, memory_bytes)
    yield from in_pieces(pairs[len(pairs) // 2 :], extracted, memory_bytes)


def edges_of(
    pairs: Pairs, signed: SignedParts, extracted: ExtractedParts, config: DuplicatesConfig, use: Kernels
) -> np.ndarray:
    """The pairs at or above the threshold, as `EDGE` rows in the order of the pairs."""
    locations, places = np.unique(pairs, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    sizes = extracted.sizes(locations)
    possible = reaches(np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second]), config)
    first, second = first[possible], second[possible]
    needed = np.unique(np.concatenate([first, second]))
    sets = extracted.sets(locations[needed])
    shared = use.shared(sets, np.searchsorted(needed, first), np.searchsorted(needed, second))
    either = sizes[first] + sizes[second] - shared
    near = reaches(shared, either, config)
    first, second = first[near], second[near]
    rank = signed.rows(locations[needed])["rank"]
    ranks = [rank[np.searchsorted(needed, side)] for side in (first, second)]
    swap = is_better(ranks[1], ranks[0])
    edges = np.zeros(len(first), EDGE)
    edges["better"] = locations[np.where(swap, second, first)]
    edges["worse"] = locations[np.where(swap, first, second)]
    edges["better_rank"] = np.where(swap[:, None], ranks[1], ranks[0])
    edges["worse_rank"] = np.where(swap[:, None], ranks[0], ranks[1])
    edges["shared"], edges["either"] = shared[near], either[near]
    return edges


def reaches(part: NDArray[np.int64], whole: NDArray[np.int64], config: DuplicatesConfig) -> NDArray[np.bool_]:
    """Whether part / whole is at least the threshold, in whole numbers."""
    threshold = config.exact_threshold
    return part * threshold.denominator >= whole * threshold.numerator


def is_better(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether ranks [n, 2] come before others."""
    return (first[:, 0] < second[:, 0]) | ((first[:, 0] == second[:, 0]) & (first[:, 1] < second[:, 1]))
