"""Many texts as one block of UTF-8 with offsets: what the kernels read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document

QUALITY_KEY = "quality"
"""Where in a document's metadata its quality is, if it has one: the better of two duplicates stays."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts one after the other."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    """Where each text starts, and where the last one ends: one more than there are texts."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, encoded: Sequence[bytes]) -> Texts:
        """From valid UTF-8, one text each."""
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        return cls(data=np.frombuffer(b"".join(encoded), np.uint8), offsets=offsets)

    def bytes_of(self, number: int) -> bytes:
        """One text."""
        return self.data[self.offsets[number] : self.offsets[number + 1]].tobytes()


@dataclass(frozen=True, kw_only=True)
class DocumentBatch:
    """Documents in the order of their part."""

    texts: Texts
    ids: Texts
    qualities: NDArray[np.float32]
    """Higher is better; 0 where none is known."""

    def __len__(self) -> int:
        return len(self.texts)


def batch_of(documents: Sequence[Document]) -> DocumentBatch:
    """The documents as one batch.

    Raises:
        DataError: a text has lone surrogates, or a quality is not a number.
    """
    return DocumentBatch(
        texts=Texts.of([encoded_text(document) for document in documents]),
        ids=Texts.of([document.id.encode() for document in documents]),
        qualities=np.array([quality_of(document) for document in documents], np.float32),
    )


def batches_of(documents: Iterable[Document], *, batch_bytes: int) -> Iterator[DocumentBatch]:
    """Documents in batches of about `batch_bytes` characters, whatever their lengths; one document is never cut."""
    waiting: list[Document] = []
    size = 0
    for document in documents:
        waiting.append(document)
        size += len(document.text) + len(document.id)
        if size >= batch_bytes:
            yield batch_of(waiting)
            waiting, size = [], 0
    if waiting:
        yield batch_of(waiting)


def encoded_text(document: Document) -> bytes:
    """The text in UTF-8."""
    try:
        return document.text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"document {document.id!r} has a lone surrogate at character {error.start}, which is no text",
            hint="read it with --on-error skip, or repair the file that it comes from",
        ) from error


def quality_of(document: Document) -> float:
    """The quality that an earlier stage has put into the metadata, or 0."""
    quality = document.metadata.get(QUALITY_KEY, 0.0)
    if not isinstance(quality, int | float) or quality != quality:
        raise DataError(f"document {document.id!r} has the quality {quality!r}, which is not a number")
    return float(quality)
