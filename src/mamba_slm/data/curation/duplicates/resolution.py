"""Which documents stay: greedy in the order of rank over the verified edges, in bounded memory.

A document stays unless a better-ranked one that stays is its near-duplicate. Edges are cut by the rank of their better
end into blocks that fit into memory, and blocks are solved in that order: when one is done, what stays in it tells the
documents of later blocks that they go ("time-forward processing": Chiang et al., "External-memory graph algorithms",
1995). Edges are written and read twice, however long the chains are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import folder_written_atomically
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.signing import order_by_rank
from mamba_slm.data.curation.duplicates.verification import EDGE

REMOVED = np.dtype([("removed", "<u8"), ("kept", "<u8"), ("shared", "<u4"), ("either", "<u4")])
"""A near-duplicate that goes, the best-ranked kept document that it duplicates, and the counts that prove it."""

HELD_BYTES = 4 * EDGE.itemsize
SAMPLED = 1 << 16
UNDECIDED, KEPT, GONE = range(3)
QUICK_ROUNDS = 64
"""Random ranks need about the logarithm of the number of edges; what is left is done one by one."""


def resolve(verified: Sequence[Path], out: Path, config: DuplicatesConfig) -> None:
    """Write which near-duplicates go, as `REMOVED` rows by location, a file per block: `removed-*.npy`."""
    files = [folder / "edges.bin" for folder in verified]
    count = sum(path.stat().st_size // EDGE.itemsize for path in files)
    bounds = block_bounds(files, count, max(1, -(-count * HELD_BYTES // config.memory_bytes)))
    with folder_written_atomically(out) as folder:
        edges = [folder / f"edges-{i}.bin" for i in range(len(bounds) + 1)]
        messages = [folder / f"messages-{i}.bin" for i in range(len(bounds) + 1)]
        for rows in edges_in(files, config.memory_bytes):
            append_by_block(rows, block_of(rows["better_rank"], bounds), edges)
        for block in range(len(bounds) + 1):
            rows, told = (read_and_delete(paths[block]) for paths in (edges, messages))
            worse_block = block_of(rows["worse_rank"], bounds)
            kept = rows[~decide(rows, worse_block == block, told["worse"])]
            worse_block = block_of(kept["worse_rank"], bounds)
            append_by_block(kept[worse_block > block], worse_block[worse_block > block], messages)
            np.save(
                folder / f"removed-{block:04d}.npy", best_proofs(np.concatenate([told, kept[worse_block == block]]))
            )


def decide(rows: np.ndarray, is_inside: NDArray[np.bool_], told: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Solve one block: of each edge, whether its better end goes.

    Args:
        rows: the edges whose better end is in the block.
        is_inside: whether the worse end is in the block, too.
        told: documents of the block that go because of earlier ones.
    """
    inside = rows[is_inside]
    nodes = np.unique(np.concatenate([rows["better"], inside["worse"]]))
    state = np.full(len(nodes), UNDECIDED, np.uint8)
    state[np.isin(nodes, told)] = GONE
    better, worse = (np.searchsorted(nodes, inside[side]) for side in ("better", "worse"))
    rank = inside["better_rank"]
    for _ in range(QUICK_ROUNDS):
        open_edges = (state[better] == UNDECIDED) & (state[worse] == UNDECIDED)
        better, worse, rank = better[open_edges], worse[open_edges], rank[open_edges]
        waits = np.zeros(len(nodes), bool)
        waits[worse] = True
        state[(state == UNDECIDED) & ~waits] = KEPT
        if not len(better):
            break
        state[worse[state[better] == KEPT]] = GONE
    for edge in order_by_rank(rank).tolist():
        if state[better[edge]] == UNDECIDED:
            state[better[edge]] = KEPT
        if state[better[edge]] == KEPT:
            state[worse[edge]] = GONE
    return state[np.searchsorted(nodes, rows["better"])] == GONE


def best_proofs(edges: np.ndarray) -> np.ndarray:
    """For each document that goes, the edge to the best-ranked document that stays, as `REMOVED` rows by location."""
    rank = edges["better_rank"]
    edges = edges[np.lexsort((rank[:, 1], rank[:, 0], edges["worse"]))]
    _, first = np.unique(edges["worse"], return_index=True)
    out = np.zeros(len(first), REMOVED)
    out["removed"], out["kept"] = edges["worse"][first], edges["better"][first]
    out["shared"], out["either"] = edges["shared"][first], edges["either"][first]
    return out


def block_bounds(files: Sequence[Path], count: int, blocks: int) -> NDArray[np.uint64]:
    """The first 64 bits of the ranks at which the second and later blocks start, from a sample of the edges.

    They shape the work, not the result.
    """
    if blocks == 1:
        return np.zeros(0, np.uint64)
    step = max(1, count // SAMPLED)
    sample = [np.array(np.memmap(path, EDGE, "r")["better_rank"][::step, 0]) for path in files if path.stat().st_size]
    ranks = np.sort(np.concatenate(sample))
    return np.unique(ranks[np.arange(1, blocks) * len(ranks) // blocks])


def block_of(rank: NDArray[np.uint64], bounds: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The block of each rank."""
    return np.searchsorted(bounds, rank[:, 0], side="right")


def edges_in(files: Sequence[Path], memory_bytes: int) -> Iterator[np.ndarray]:
    """All edges, a part at a time."""
    for path in files:
        with path.open("rb") as file:
            while len(rows := np.fromfile(file, EDGE, max(1, memory_bytes // HELD_BYTES))):
                yield rows


def append_by_block(rows: np.ndarray, blocks: NDArray[np.int64], paths: Sequence[Path]) -> None:
    """Append each row to the file of its block."""
    for block in np.unique(blocks).tolist():
        with paths[block].open("ab") as file:
            rows[blocks == block].tofile(file)


def read_and_delete(path: Path) -> np.ndarray:
    """The edges of a temporary file, which may be absent."""
    rows = np.fromfile(path, EDGE) if path.exists() else np.zeros(0, EDGE)
    path.unlink(missing_ok=True)
    return rows
