"""The task of one part of the input: its documents as tokens, in files that are put together later.

OUT/train.tokens, OUT/validation.tokens         the documents one after another, uint16 or uint32
OUT/train.lengths, OUT/validation.lengths       uint64, tokens of each document
OUT/summary.json                                counts, what was read and left out; "different": why there are no tokens
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data import python_library
from mamba_slm.data.document import Document
from mamba_slm.data.encode import BATCH_CHARACTERS, DocumentEncoder, batches
from mamba_slm.data.reading.parts import InputPart
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.shard_format import dtype_of
from mamba_slm.data.splits import is_text_held_out
from mamba_slm.data.tokenization.read_record import read_record
from mamba_slm.text.bulk import DifferentIdsError, Speed, bulk_encoder
from mamba_slm.text.tokenizer import Tokenizer

SPLITS = ("train", "validation")
SUMMARY = "summary.json"


@dataclass(frozen=True, kw_only=True)
class TokenizePart:
    """One part; can be pickled, and called twice is the same as once."""

    part: InputPart
    """What is read."""

    tokenizer_file: Path
    """A tokenizer.json."""

    out: Path
    """Written atomically."""

    validation_share: float
    """Share of the documents to hold out, by a hash of their text."""

    speed: Speed
    """"exact": with `tokenizers` only."""

    threads: int | None
    """How many the encoder may use; None leaves it to the library."""

    def __call__(self) -> None:
        """Do it.

        Raises:
            DataError: a document cannot be read.
            DiskFullError: no space left; nothing is left behind.
        """
        encoder = encoder_of(self.tokenizer_file, self.speed, self.threads)
        with folder_written_atomically(self.out) as folder:
            try:
                summary = self.write(encoder, folder)
            except DifferentIdsError as error:
                summary = {"different": error.message}
                for name in SPLITS:
                    (folder / f"{name}.tokens").unlink()
                    (folder / f"{name}.lengths").unlink()
            write_json_atomic(folder / SUMMARY, summary)

    def write(self, encoder: DocumentEncoder, folder: Path) -> dict[str, Any]:
        """Write the tokens and return the summary."""
        report = ReadReport()
        counts = {name: dict.fromkeys(("documents", "tokens", "text_bytes"), 0) for name in SPLITS}
        dtype = dtype_of(encoder.tokenizer.vocab_size)
        encoder.bulk.begin()
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(opened_pair(folder, name)) for name in SPLITS}
            for batch in batches(self.part.documents(report), BATCH_CHARACTERS):
                tokens, lengths = encoder.encode(batch)
                texts = [document.text.encode() for document in batch]
                held_out = np.asarray(
                    [is_held_out(*pair, self.validation_share) for pair in zip(batch, texts, strict=True)]
                )
                sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
                for name, chosen in zip(SPLITS, (~held_out, held_out), strict=True):
                    if not chosen.any():
                        continue
                    mine = tokens if chosen.all() else tokens[np.repeat(chosen, lengths)]
                    token_file, length_file = files[name]
                    token_file.write(mine.astype(dtype).tobytes())
                    length_file.write(lengths[chosen].astype("<u8").tobytes())
                    counts[name]["documents"] += int(chosen.sum())
                    counts[name]["tokens"] += len(mine)
                    counts[name]["text_bytes"] += int(sizes[chosen].sum())
        return {
            "documents": sum(count["documents"] for count in counts.values()),
            "tokens": sum(count["tokens"] for count in counts.values()),
            "splits": counts,
            "read": read_record(report),
            "encoder": encoder.bulk.description,
        }


@contextlib.contextmanager
def opened_pair(folder: Path, name: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The files of tokens and lengths of a split, to write."""
    with (folder / f"{name}.tokens").open("wb") as tokens, (folder / f"{name}.lengths").open("wb") as lengths:
        yield tokens, lengths


def is_held_out(document: Document, text: bytes, share: float) -> bool:
    """Whether a document is for validation: by its text in UTF-8, or of Python's library by its path."""
    if document.source == python_library.NAME:
        return python_library.held_out(document, share)
    return is_text_held_out(text, share)


@functools.lru_cache(maxsize=2)
def encoder_of(tokenizer_file: Path, speed: Speed, threads: int | None) -> DocumentEncoder:
    """Made once per process: loading a vocabulary takes longer than many a part."""
    tokenizer = Tokenizer.load(tokenizer_file)
    return DocumentEncoder(tokenizer, bulk_encoder(tokenizer, speed=speed, threads=threads))
