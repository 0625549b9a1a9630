"""The first reading of a part: what is kept of each document, and its hashes in sorted runs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.curation.duplicates.batches import DocumentBatch
from mamba_slm.data.curation.duplicates.config import MIB, DuplicatesConfig
from mamba_slm.data.curation.duplicates.constants import ID_SEED, RAW_SEED
from mamba_slm.data.curation.duplicates.kernels import KernelChoice, Kernels, kernels
from mamba_slm.data.curation.duplicates.parts import Part
from mamba_slm.data.curation.duplicates.portable import mixed
from mamba_slm.data.curation.duplicates.runs import Locations, RunWriter, index_of, part_of

BATCH_BYTES = 4 * MIB
CHUNK_DOCUMENTS = 1 << 16
"""Documents among which copies are found at once, so that a page that is there a billion times stays harmless."""

DOCUMENT = np.dtype([("content", "<u8", 2), ("raw", "<u8", 2), ("rank", "<u8", 2), ("words", "<u8")])
"""What is kept of a document: hashes of its words and of its bytes, its rank, how many words it has."""

LOCAL_COPY = np.dtype([("removed", "<u4"), ("kept", "<u4")])
"""A copy within a chunk and its representative there, by their numbers in the part."""


def sign_part(part: Part, out: Path, config: DuplicatesConfig, kernel: KernelChoice) -> None:
    """Write the folder `out`: documents, ids, copies within chunks, the runs `exact` and `bands`, and a summary."""
    use = kernels(kernel)
    with folder_written_atomically(out) as folder, SignatureWriter(folder, config, use) as writer:
        num_bytes = id_bytes = 0
        with (folder / "ids.bin").open("wb") as ids, (folder / "ids.ends").open("wb") as id_ends:
            for batch in part.batches(BATCH_BYTES):
                writer.append(*signed(batch, config, use))
                batch.ids.data.tofile(ids)
                (batch.ids.offsets[1:] + id_bytes).tofile(id_ends)
                num_bytes += len(batch.texts.data)
                id_bytes += len(batch.ids.data)
        writer.flush()
        summary = {"part": part.name, "documents": writer.count, "bytes": num_bytes, "records": writer.records}
        write_json_atomic(folder / "summary.json", summary)


class SignatureWriter:
    """Writes the rows and keys of a part's documents, in chunks."""

    def __init__(self, folder: Path, config: DuplicatesConfig, use: Kernels):
        self.exact = RunWriter(folder, "exact", use, memory_bytes=config.memory_bytes // 8)
        self.bands = RunWriter(folder, "bands", use, memory_bytes=config.memory_bytes // 2)
        self.documents = (folder / "documents.bin").open("wb")
        self.local_copies = (folder / "copies.bin").open("wb")
        self.waiting: list[tuple[np.ndarray, NDArray[np.uint64]]] = []
        self.held = self.count = self.records = 0

    def __enter__(self) -> SignatureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.documents.close()
        self.local_copies.close()

    def append(self, rows: np.ndarray, keys: NDArray[np.uint64]) -> None:
        """Add the next documents."""
        self.waiting.append((rows, keys))
        self.held += len(rows)
        if self.held >= CHUNK_DOCUMENTS:
            self.write_chunk()

    def write_chunk(self) -> None:
        """Write what waits: every row, and the hashes of the best-ranked of equal documents."""
        if not self.held:
            return
        rows, keys = (np.concatenate(column) for column in zip(*self.waiting, strict=True))
        self.waiting, self.held = [], 0
        rows.tofile(self.documents)
        kept, removed, represented_by = representatives(rows)
        copies = np.zeros(len(removed), LOCAL_COPY)
        copies["removed"], copies["kept"] = removed + self.count, represented_by + self.count
        copies.tofile(self.local_copies)
        content = rows["content"][kept]
        self.exact.append(content[:, 0], (kept + self.count).astype(np.uint32), content[:, 1].astype(np.uint32))
        some = kept[rows["words"][kept] > 0]
        keys = keys[some]
        indices = np.repeat((some + self.count).astype(np.uint32), keys.shape[1])
        self.bands.append(keys.ravel(), indices, np.roll(keys, -1, axis=1).ravel().astype(np.uint32))
        self.records += keys.size
        self.count += len(rows)

    def flush(self) -> None:
        """Write everything to its end."""
        self.write_chunk()
        self.exact.flush()
        self.bands.flush()
        self.documents.flush()
        self.local_copies.flush()


def representatives(
    rows: np.ndarray, then: np.ndarray | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The best-ranked of the rows with the same content; the others; and which of the first each other belongs to.

    Args:
        then: decides between equal ranks, that is the same text under the same id; default: the order of the rows.
    """
    then = np.arange(len(rows)) if then is None else then
    order = np.lexsort((then, rows["rank"][:, 1], rows["rank"][:, 0], *rows["content"].T))
    content = rows["content"][order]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (content[1:] != content[:-1]).any(axis=1)
    best = order[is_first][np.cumsum(is_first) - 1]
    return order[is_first], order[~is_first], best[~is_first]


def signed(batch: DocumentBatch, config: DuplicatesConfig, use: Kernels) -> tuple[np.ndarray, NDArray[np.uint64]]:
    """The `DOCUMENT` rows of a batch, and [documents, bands] keys."""
    signatures = use.sign(batch.texts, config)
    raw = use.hash_bytes(batch.texts, RAW_SEED)
    rows = np.zeros(len(batch), DOCUMENT)
    wordless = (signatures.num_words == 0)[:, None]
    rows["content"] = np.where(wordless, mixed(raw ^ np.uint64(RAW_SEED)), signatures.content)
    rows["raw"] = raw
    rows["rank"] = ranks(batch.qualities, raw, use.hash_bytes(batch.ids, ID_SEED))
    rows["words"] = signatures.num_words
    return rows, signatures.keys


def ranks(qualities: NDArray[np.float32], raw: NDArray[np.uint64], ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[documents, 2] numbers, to be compared pair by pair: 32 bits for the quality, the higher the smaller; 96 of a
    hash of text and id."""
    bits = (qualities.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    descending = np.where(bits >> np.uint32(31), bits, bits ^ np.uint32(0x7FFFFFFF)).astype(np.uint64)
    hashes = mixed(raw ^ mixed(ids))
    return np.stack([descending << np.uint64(32) | hashes[:, 0] >> np.uint64(32), hashes[:, 1]], axis=1)


@dataclass(frozen=True, kw_only=True)
class SignedParts:
    """What `sign_part` has left of all parts, by location."""

    folders: tuple[Path, ...]

    def rows(self, locations: Locations) -> np.ndarray:
        """The `DOCUMENT` rows at these locations."""
        out = np.zeros(len(locations), DOCUMENT)
        parts, indices = part_of(locations), index_of(locations)
        for part in np.unique(parts).tolist():
            here = parts == part
            out[here] = np.memmap(self.folders[part] / "documents.bin", DOCUMENT, "r")[indices[here]]
        return out

    def id_of(self, location: int) -> str:
        """The id of one document."""
        ends, ids = opened_ids(self.folders[location >> 32])
        index = location & 0xFFFFFFFF
        return bytes(ids[int(ends[index - 1]) if index else 0 : int(ends[index])]).decode()


def opened_ids(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where the ids of a part end, and their bytes; kept open."""
    return ids_as_of(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def ids_as_of(folder: Path, time: int) -> tuple[np.ndarray, np.ndarray]:
    """As `opened_ids`, of the folder that was made at that time."""
    ids = folder / "ids.bin"
    return (
        np.memmap(folder / "ids.ends", "<i8", "r"),
        np.memmap(ids, np.uint8, "r") if ids.stat().st_size else np.zeros(0, np.uint8),
    )


def order_by_rank(rank: NDArray[np.uint64], *then: np.ndarray) -> NDArray[np.int64]:
    """The order of [n, 2] ranks, best first; equal ones by `then`."""
    return np.lexsort((*reversed(then), rank[:, 1], rank[:, 0]))
