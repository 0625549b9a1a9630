"""Signals of many texts at once: in C++ where there is a compiler, else by the definition, with the same numbers."""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mamba_slm.core.errors import DataError, OutOfMemoryError, SetupError
from mamba_slm.core.native import declare, load_library
from mamba_slm.data.curation.signals.characters import character_table
from mamba_slm.data.curation.signals.definition import NAMES, Signals, measure
from mamba_slm.data.curation.signals.vocabulary import (
    MAX_CORE_BYTES,
    MAX_PHRASE_WORDS,
    PHRASES,
    STOP_WORDS,
    VOCABULARY,
)

SOURCE = Path(__file__).parent / "signals.cpp"
log = logging.getLogger(__name__)


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The compiled code, or None where it cannot be had; says which, once, with the reason."""
    try:
        library = load_library(SOURCE)
    except SetupError as error:
        log.warning("quality signals=python (%s); compiled ones are 200 times faster", error.message)
        return None
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    declare(library, "signal_names", result=ctypes.c_char_p)
    texts, table, vocabulary = (pointer, pointer, number), (pointer,) * 3, (pointer, number, number, pointer, number)
    declare(library, "measure_signals", *texts, *table, *vocabulary, pointer, result=number)
    assert library.signal_names().decode() == "".join(f"{name}," for name in NAMES), "signals.cpp has other columns"
    log.info("quality signals=native (compiled %s)", SOURCE.name)
    return library


def measure_texts(texts: Sequence[str]) -> np.ndarray:
    """Signals of texts: [n len(NAMES)] int64, a row per text, a column per field of `Signals`.

    Raises:
        OutOfMemoryError, DataError: as `measure_bytes`.
    """
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(content) for content in encoded], out=offsets[1:])
    return measure_bytes(b"".join(encoded), offsets)


def measure_bytes(content: bytes | np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Signals of texts that lie one after another in UTF-8, as in Arrow's string columns.

    Args:
        content: all texts, as bytes or a uint8 array. It must be UTF-8 (three-byte surrogates are let through): what is
            not is measured as something, and nothing outside a text is read.
        offsets: [n + 1] int64, ascending: text i is `content[offsets[i] : offsets[i + 1]]`.

    Returns:
        [n len(NAMES)] int64.

    Raises:
        OutOfMemoryError: a text needs more memory than there is, about ten times its size.
        DataError: a text has 4 GB or more.
    """
    content = np.frombuffer(content, np.uint8)
    offsets = np.ascontiguousarray(offsets, np.int64)
    assert len(offsets) and offsets[0] >= 0 and offsets[-1] <= len(content) and (np.diff(offsets) >= 0).all()
    library = native_library()
    if library is None:
        pieces = (content[start:end].tobytes() for start, end in itertools.pairwise(offsets))
        return to_matrix([measure(piece.decode(errors="surrogatepass")) for piece in pieces])
    matrix = np.empty((len(offsets) - 1, len(NAMES)), np.int64)
    table, (words, phrases) = character_table(), vocabulary_arrays()
    failed = library.measure_signals(
        *(content.ctypes.data, offsets.ctypes.data, len(matrix)),
        *(table.index.ctypes.data, table.blocks.ctypes.data, table.white_leads.ctypes.data),
        *(words.ctypes.data, len(words), len(STOP_WORDS), phrases.ctypes.data, len(phrases)),
        matrix.ctypes.data,
    )
    if failed < 0:
        raise OutOfMemoryError(
            f"no memory for the quality signals of {len(content)} bytes", hint="use smaller batches, or fewer workers"
        )
    if failed:
        size = offsets[failed] - offsets[failed - 1]
        raise DataError(f"a text of {size} bytes is too long for quality signals", hint="split it, or leave it out")
    return matrix


def to_matrix(signals: Sequence[Signals]) -> np.ndarray:
    """Signals as rows: [n len(NAMES)] int64."""
    rows = [[getattr(one, name) for name in NAMES] for one in signals]
    return np.array(rows, np.int64).reshape(len(signals), len(NAMES))


def to_signals(row: np.ndarray) -> Signals:
    """One row of the matrix with its names."""
    return Signals(**dict(zip(NAMES, row.tolist(), strict=True)))


@functools.cache
def vocabulary_arrays() -> tuple[np.ndarray, np.ndarray]:
    """`VOCABULARY` as [words 16] uint8, and `PHRASES` as [phrases 4] int64: family, then numbers of words, from 1."""
    words = np.zeros((len(VOCABULARY), MAX_CORE_BYTES), np.uint8)
    for row, word in zip(words, VOCABULARY, strict=True):
        row[: len(word)] = np.frombuffer(word.encode(), np.uint8)
    phrases = []
    for family, family_phrases in enumerate(PHRASES.values()):
        for phrase in family_phrases:
            numbers = [VOCABULARY.index(word) + 1 for word in phrase]
            phrases.append([family, *numbers, *[0] * (MAX_PHRASE_WORDS - len(phrase))])
    return words, np.array(phrases, np.int64)
