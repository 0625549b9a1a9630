"""Evidence of many texts at once: in C++ where there is a compiler, else by the definition, with the same numbers."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mamba_slm.core.errors import OutOfMemoryError, SetupError
from mamba_slm.core.native import declare, load_library
from mamba_slm.data.curation.language.characters import folding_arrays
from mamba_slm.data.curation.language.definition import Evidence, weigh, word_scorer

SOURCE = Path(__file__).parent / "gate.cpp"
WEIGHTS = Path(__file__).parent / "weights.bin"
COLUMNS = ("words", "foreign_words", "score")
log = logging.getLogger(__name__)


@functools.cache
def weights() -> np.ndarray:
    """The table that comes with the package: [2^bits] int8, made by `benchmarks/language_table.py`."""
    return np.frombuffer(WEIGHTS.read_bytes(), np.int8)


@functools.cache
def scorer() -> Callable[[str], int]:
    """The score of a word by that table."""
    return word_scorer(weights())


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The compiled code, or None where it cannot be had; says which, once, with the reason."""
    try:
        library = load_library(SOURCE)
    except SetupError as error:
        log.warning("language gate=python (%s); the compiled one is 25 times faster", error.message)
        return None
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    declare(library, "weigh_texts", pointer, pointer, number, *[pointer] * 3, number, pointer, result=number)
    log.info("language gate=native (compiled %s)", SOURCE.name)
    return library


def weigh_texts(texts: Sequence[str]) -> np.ndarray:
    """Evidence of texts: [n 3] int64, a row per text, columns as `COLUMNS`.

    Raises:
        OutOfMemoryError: a token needs more memory than there is, four bytes per character.
    """
    library = native_library()
    if library is None:
        return to_matrix([weigh(text, scorer()) for text in texts])
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(content) for content in encoded], out=offsets[1:])
    content = b"".join(encoded)
    matrix = np.empty((len(texts), len(COLUMNS)), np.int64)
    (own, blocks), table = folding_arrays(), weights()
    failed = library.weigh_texts(
        *(content, offsets.ctypes.data, len(texts), own.ctypes.data, blocks.ctypes.data, table.ctypes.data),
        *(len(table).bit_length() - 1, matrix.ctypes.data),
    )
    if failed:
        raise OutOfMemoryError(f"no memory to judge the language of {len(content)} bytes", hint="use smaller batches")
    return matrix


def to_matrix(evidence: Sequence[Evidence]) -> np.ndarray:
    """Evidence as rows: [n 3] int64."""
    rows = [[one.words, one.foreign_words, one.score] for one in evidence]
    return np.array(rows, np.int64).reshape(len(rows), len(COLUMNS))
