"""Documents to token shards, tokenized in batches on all cores, in order and therefore reproducibly."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.data.document import Document
from mamba_slm.data.shards import MAX_SHARD_TOKENS, ShardWriter
from mamba_slm.text.bulk import BulkEncoder, DifferentIdsError, ExactEncoder, bulk_encoder
from mamba_slm.text.cutting import Cutter
from mamba_slm.text.long_words import LongWords
from mamba_slm.text.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20
LONG_PIECE = 1 << 19


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

    encoder: str = "tokenizers"
    """Which library made the ids, and why."""

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
            f"in {format_seconds(self.seconds)} ({format_count(self.num_tokens / max(self.seconds, 1e-9))} tokens/s) "
            f"by {self.encoder}"
        )


class DocumentEncoder:
    """Documents to tokens: [bos] + ids + [eos] of each; long texts are cut where that changes no token."""

    def __init__(self, tokenizer: Tokenizer, bulk: BulkEncoder):
        self.tokenizer, self.bulk, self.cutter = tokenizer, bulk, Cutter(tokenizer)
        self.long_words = LongWords(tokenizer)

    def encode(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of all documents one after another, uint32 [t], and how many each has, int64 [documents].

        Raises:
            DifferentIdsError: the encoder was found to be wrong.
        """
        pieces = [self.cutter.cut(document.text) for document in documents]
        ids, piece_lengths = self.encode_pieces([piece for parts in pieces for piece in parts])
        firsts = np.cumsum([0, *(len(parts) for parts in pieces[:-1])])
        lengths = np.add.reduceat(piece_lengths, firsts) + 2 if pieces else np.empty(0, np.int64)
        ends = np.cumsum(lengths)
        tokens = np.empty(int(lengths.sum()), dtype=np.uint32)
        is_text = np.ones(len(tokens), dtype=bool)
        for places, id in ((ends - lengths, self.tokenizer.bos_id), (ends - 1, self.tokenizer.eos_id)):
            tokens[places], is_text[places] = id, False
        tokens[is_text] = ids
        return tokens, lengths

    def encode_pieces(self, pieces: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all pieces, and how many each has."""
        if all(len(piece) <= LONG_PIECE for piece in pieces):
            return self.bulk.encode(pieces)
        found = [self.encode_long(piece) if len(piece) > LONG_PIECE else self.encode_one(piece) for piece in pieces]
        return np.concatenate(found), np.asarray([len(ids) for ids in found])

    def encode_one(self, piece: str) -> np.ndarray:
        """Ids of one piece."""
        return self.bulk.encode([piece])[0]

    def encode_long(self, piece: str) -> np.ndarray:
        """Ids of a piece that is this long because there was no place to cut it."""
        ids = self.long_words.encode(piece, self.encode_one)
        return self.encode_one(piece) if ids is None else ids


def encode_documents(
    documents: Iterable[Document] | Callable[[], Iterable[Document]],
    tokenizer: Tokenizer,
    folder: Path | str,
    *,
    max_shard_tokens: int = MAX_SHARD_TOKENS,
    on_progress: Callable[[int], None] | None = None,
) -> EncodeReport:
    """Tokenize documents into a new shard folder; the folder appears complete or not at all.

    Each document is stored as [bos] + ids + [eos]. The same documents and tokenizer give the same bytes.

    Args:
        documents: in their order; a sequence, or a function that reads them anew, allows the faster encoder, whose
            work is done again by the exact one when it turns out to be wrong.
        tokenizer: its fingerprint is stored with the tokens.
        folder: must not exist.
        max_shard_tokens: a shard is closed before it grows beyond this.
        on_progress: called with the UTF-8 bytes of each batch when it is written.

    Raises:
        DataError: the folder exists, or there is no text at all.
        DiskFullError: no space left; nothing is left behind.
    """
    settings = {"max_shard_tokens": max_shard_tokens, "on_progress": on_progress}
    if isinstance(documents, Sequence):
        read = functools.partial(iter, documents)
    elif callable(documents):
        read = documents
    else:
        exact = ExactEncoder(tokenizer, "the documents can be read once only")
        return encode_with(exact, documents, tokenizer, folder, **settings)
    try:
        return encode_with(bulk_encoder(tokenizer), read(), tokenizer, folder, **settings)
    except DifferentIdsError as error:
        return encode_with(ExactEncoder(tokenizer, error.message), read(), tokenizer, folder, **settings)


def encode_with(
    bulk: BulkEncoder,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: Path | str,
    *,
    max_shard_tokens: int,
    on_progress: Callable[[int], None] | None,
) -> EncodeReport:
    """`encode_documents` with this encoder.

    Raises:
        DifferentIdsError: it was found to be wrong; nothing is left behind.
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

    bulk.begin()
    encoder = DocumentEncoder(tokenizer, bulk)
    writer = ShardWriter(
        folder,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        max_shard_tokens=max_shard_tokens,
    )
    with writer:
        for batch in batches(with_text(), BATCH_CHARACTERS):
            batch_bytes = sum(document.num_bytes for document in batch)
            writer.append_many(*encoder.encode(batch), text_bytes=batch_bytes)
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
        encoder=bulk.description,
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
    """[bos] + ids + [eos] of each document, int64."""
    tokens, lengths = DocumentEncoder(tokenizer, ExactEncoder(tokenizer, "few documents")).encode(documents)
    return np.split(tokens.astype(np.int64), np.cumsum(lengths)[:-1])
