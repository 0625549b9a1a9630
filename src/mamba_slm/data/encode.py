"""Documents to token shards, tokenized in batches on all cores, in order and therefore reproducibly."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.data.document import Document
from mamba_slm.data.shards import MAX_SHARD_TOKENS, ShardWriter
from mamba_slm.text.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20
PIECE_CHARACTERS = 1 << 18
# Byte-level pre-tokenizers never join a single line end with the ASCII letter after it, so that a cut here
# changes no token; the character before must not be white space, or a run of line ends might be cut.
SAFE_CUT = re.compile(r"(?<=[^\s]\n)(?=[A-Za-z])")


@dataclass(frozen=True, kw_only=True)
class EncodeReport:
    """What was written, and how fast."""

    folder: str
    """The shard folder."""

    num_documents: int
    """Documents written."""

    num_tokens: int
    """Tokens written, begin and end tokens included."""

    text_bytes: int
    """UTF-8 bytes of the texts."""

    num_empty: int
    """Documents without text, left out."""

    seconds: float
    """Wall time, reading included."""

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes per stored token, begin and end tokens counted."""
        return self.text_bytes / self.num_tokens

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "bytes_per_token": self.bytes_per_token}

    def __str__(self) -> str:
        empty = f", {self.num_empty} empty left out" if self.num_empty else ""
        return (
            f"{self.folder}: {self.num_documents} documents{empty}, {format_bytes(self.text_bytes)} of text, "
            f"{format_count(self.num_tokens)} tokens ({self.bytes_per_token:.2f} bytes per token) "
            f"in {format_seconds(self.seconds)} ({format_count(self.num_tokens / max(self.seconds, 1e-9))} tokens/s)"
        )


def encode_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: Path | str,
    *,
    max_shard_tokens: int = MAX_SHARD_TOKENS,
    on_progress: Callable[[int], None] | None = None,
) -> EncodeReport:
    """Tokenize documents into a new shard folder; the folder appears complete or not at all.

    Each document is stored as [bos] + ids + [eos]. The same documents and tokenizer give the same bytes.

    Args:
        documents: read once, in order.
        tokenizer: its fingerprint is stored with the tokens.
        folder: must not exist.
        max_shard_tokens: a shard is closed before it grows beyond this.
        on_progress: called with the UTF-8 bytes of each batch when it is written.

    Raises:
        DataError: the folder exists, or there is no text at all.
        DiskFullError: no space left; nothing is left behind.
    """
    start = time.perf_counter()
    num_empty = 0

    def with_text() -> Iterator[Document]:
        nonlocal num_empty
        for document in documents:
            if document.text:
                yield document
            else:
                num_empty += 1

    writer = ShardWriter(
        folder,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        max_shard_tokens=max_shard_tokens,
    )
    with writer:
        for batch in batches(with_text(), BATCH_CHARACTERS):
            batch_bytes = 0
            for document, ids in zip(batch, encode_batch(tokenizer, batch), strict=True):
                num_bytes = document.num_bytes
                writer.append(ids, text_bytes=num_bytes)
                batch_bytes += num_bytes
            if on_progress is not None:
                on_progress(batch_bytes)
        if writer.num_documents == 0:
            raise DataError("there is no text to tokenize", hint="check the path and the pattern of the input")
    return EncodeReport(
        folder=str(folder),
        num_documents=writer.num_documents,
        num_tokens=writer.num_tokens,
        text_bytes=writer.text_bytes,
        num_empty=num_empty,
        seconds=time.perf_counter() - start,
    )


def batches(documents: Iterable[Document], max_characters: int) -> Iterator[list[Document]]:
    """Group documents so that a group is closed as soon as it holds `max_characters`."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= max_characters:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def encode_batch(tokenizer: Tokenizer, documents: list[Document]) -> list[np.ndarray]:
    """[bos] + ids + [eos] of each document, int64; long texts are cut where it changes nothing, to use all cores."""
    pieces = [cut(document.text) for document in documents]
    encoded = iter(tokenizer.encode_batch([piece for parts in pieces for piece in parts]))
    result = []
    for parts in pieces:
        ids = [np.asarray(next(encoded), dtype=np.int64) for _ in parts]
        result.append(np.concatenate([[tokenizer.bos_id], *ids, [tokenizer.eos_id]]).astype(np.int64))
    return result


def cut(text: str, piece_characters: int = PIECE_CHARACTERS) -> list[str]:
    """Cut a long text at line ends where no token can reach across; a text without such places stays whole."""
    pieces, start = [], 0
    while len(text) - start > piece_characters:
        place = SAFE_CUT.search(text, start + piece_characters)
        if place is None:
            break
        pieces.append(text[start : place.start()])
        start = place.start()
    pieces.append(text[start:])
    return pieces
