"""Where documents come from: parts that can be read twice, each in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mamba_slm.data.curation.duplicates.batches import DocumentBatch, batches_of
from mamba_slm.data.document import Document
from mamba_slm.data.readers import read_documents


class Part(Protocol):
    """A range of documents that one task reads. Workers get it pickled. At most 2^32 documents, better 1M."""

    @property
    def name(self) -> str:
        """Names the part in messages, such as the path of its file."""
        ...

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """Every document, in the same order each time, about `batch_bytes` at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """The documents of a file or folder, as `read_documents` reads them."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """As `Part.batches`."""
        return batches_of(read_documents(self.path), batch_bytes=batch_bytes)


@dataclass(frozen=True, kw_only=True)
class MemoryPart:
    """Documents that are there already."""

    name: str
    documents: Sequence[Document]

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """As `Part.batches`."""
        return batches_of(self.documents, batch_bytes=batch_bytes)
