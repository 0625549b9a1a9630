"""What a model must beat: compressors and a trigram, in bits per byte of the same documents.

All rows have the same denominator, the UTF-8 bytes of the documents' text. All of them pay for the end of every
document: a compressor through its container, the trigram and the model through the end token.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable, Sequence

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.evaluation.ngram import WittenBellTrigram

XZ_PRESET = 9 | lzma.PRESET_EXTREME
XZ_DICTIONARY_BYTES = 64 * 2**20  # what `xz -9` uses

GZIP_EACH = "gzip -9 (each file alone)"
XZ_EACH = "xz -9e (each file alone)"
XZ_TOGETHER = "xz -9e (all files together)"
TRIGRAM = "Witten-Bell trigram (same tokens, same training text)"

Row = dict[str, str | float | int]


def gzip_bytes(data: bytes) -> int:
    """Size of `data` after `gzip -9`, container included."""
    return len(gzip.compress(data, compresslevel=9, mtime=0))


def xz_bytes(data: bytes) -> int:
    """Size of `data` after `xz -9e`, container included.

    The dictionary is no larger than the data needs: the same size, without clearing hundreds of MiB for each file.
    """
    dictionary = min(XZ_DICTIONARY_BYTES, max(4096, 1 << max(len(data) - 1, 0).bit_length()))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": XZ_PRESET, "dict_size": dictionary}]
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))


def compressor_rows(texts: Sequence[str]) -> list[Row]:
    """Rows for gzip and xz of each text alone, and xz of all texts joined in the given order.

    Raises:
        DataError: there is no text.
    """
    data = [text.encode("utf-8") for text in texts]
    num_bytes = total_bytes(texts)
    return [
        row(GZIP_EACH, 8 * sum(map(gzip_bytes, data)), num_bytes, "Python's gzip, level 9; sum over the files"),
        row(XZ_EACH, 8 * sum(map(xz_bytes, data)), num_bytes, "Python's lzma, preset 9e; sum over the files"),
        row(
            XZ_TOGETHER,
            8 * xz_bytes(b"".join(data)),
            num_bytes,
            "Python's lzma, preset 9e; one stream, so a file helps the next",
        ),
    ]


def trigram_row(
    documents: Iterable[np.ndarray], *, training_documents: Iterable[np.ndarray], vocab_size: int, num_bytes: int
) -> Row:
    """Row for a Witten-Bell trigram.

    Args:
        documents: token ids of the held-out documents, each [bos, ..., eos]; every token but bos is scored.
        training_documents: token ids of all training documents, in the same form.
        vocab_size: of the tokenizer.
        num_bytes: UTF-8 bytes of the held-out documents.

    Raises:
        DataError: there are no training tokens.
    """
    model = WittenBellTrigram.fit(training_documents, vocab_size=vocab_size)
    bits = -sum(float(model.log2_probabilities(document).sum()) for document in documents)
    return row(
        TRIGRAM,
        bits,
        num_bytes,
        f"interpolated; counted over {model.num_training_tokens:,} training tokens, end of document scored",
    )


def total_bytes(texts: Sequence[str]) -> int:
    """UTF-8 bytes of all texts.

    Raises:
        DataError: there is no text.
    """
    num_bytes = sum(len(text.encode("utf-8")) for text in texts)
    if num_bytes == 0:
        raise DataError("there is no held-out text to measure", hint="give more text, or hold out a larger share of it")
    return num_bytes


def row(name: str, bits: float, num_bytes: int, how: str) -> Row:
    """One line of `evaluation.json`."""
    return {"name": name, "bits_per_byte": bits / num_bytes, "bytes": num_bytes, "how": how}
