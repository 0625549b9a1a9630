"""Documents between two stages: compressed blocks of some megabytes, read in order without parsing anything.

file   = block, block, …
block  = length of the rest as u32, then one Zstandard frame
frame  = number of documents, then for each document the u32 length of its text, of its id and of its record, then
         all texts, all ids, all records; numbers are little-endian
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.data.curation.duplicates.batches import Texts

BLOCK_BYTES = 4 << 20
LEVEL = 1
"""Of compression: these files are read twice and deleted; at this level the disk writes less and nobody waits."""

COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some documents."""

    texts: Texts
    ids: Texts
    records: Texts
    """JSON objects with everything but the text."""

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Text, id and record of each document."""
        columns = []
        for column in (self.texts, self.ids, self.records):
            data, ends = column.data.tobytes(), column.offsets.tolist()
            columns.append([data[start:end] for start, end in itertools.pairwise(ends)])
        return zip(*columns, strict=True)


@dataclass(kw_only=True)
class BlockWriter:
    """Collects documents and writes blocks of about `BLOCK_BYTES`."""

    file: BinaryIO
    columns: tuple[list[bytes], ...] = field(default_factory=lambda: tuple([] for _ in range(COLUMNS)))
    held_bytes: int = 0
    compressor: Any = field(default_factory=lambda: zstandard().ZstdCompressor(level=LEVEL))

    def append(self, text: bytes, id: bytes, record: bytes) -> None:
        """Add the next document."""
        for column, value in zip(self.columns, (text, id, record), strict=True):
            column.append(value)
        self.held_bytes += len(text) + len(id) + len(record)
        if self.held_bytes >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self.held_bytes and not self.columns[0]:
            return
        lengths = np.array([[len(value) for value in column] for column in self.columns], "<u4")
        head = np.array([lengths.shape[1]], "<u4").tobytes() + lengths.tobytes()
        frame = self.compressor.compress(b"".join([head, *(value for column in self.columns for value in column)]))
        self.file.write(np.array([len(frame)], "<u4").tobytes())
        self.file.write(frame)
        for column in self.columns:
            column.clear()
        self.held_bytes = 0


def read_blocks(path: Path) -> Iterator[Block]:
    """The blocks of a file in order.

    Raises:
        DataError: the file is damaged.
    """
    decompressor = zstandard().ZstdDecompressor()
    with path.open("rb") as file:
        while head := file.read(4):
            length = int.from_bytes(head, "little")
            frame = file.read(length)
            try:
                content = decompressor.decompress(frame)
            except zstandard().ZstdError as error:
                raise DataError(
                    f"{path} is damaged: {error}", hint=f"delete {path.parent} and run the same command again"
                ) from error
            yield block_of(content)


def block_of(content: bytes) -> Block:
    """The columns of one frame."""
    count = int.from_bytes(content[:4], "little")
    lengths = np.frombuffer(content, "<u4", COLUMNS * count, 4).reshape(COLUMNS, count)
    start, columns = 4 + lengths.nbytes, []
    for row in lengths:
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(row, out=offsets[1:])
        columns.append(Texts(data=np.frombuffer(content, np.uint8, int(offsets[-1]), start), offsets=offsets))
        start += int(offsets[-1])
    texts, ids, records = columns
    return Block(texts=texts, ids=ids, records=records)


def selected(texts: Texts, kept: np.ndarray) -> Texts:
    """The texts at which `kept`, a bool for each, is true."""
    if kept.all():
        return texts
    return Texts.of([texts.bytes_of(number) for number in np.flatnonzero(kept).tolist()])


def zstandard() -> Any:
    """The library, or an error that says how to install it."""
    return require("zstandard", extra="data", purpose="curation")
