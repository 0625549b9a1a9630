"""Hashes of all lines of many texts: in C++ where there is a compiler, else in numpy, with the same result."""

from __future__ import annotations

import ctypes
import functools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import OutOfMemoryError, SetupError
from mamba_slm.core.native import declare, load_library
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.characters import character_table
from mamba_slm.data.curation.duplicates.definition import GOLDEN
from mamba_slm.data.curation.duplicates.portable import mixed, position_in_run, sum_of_runs, word_hashes
from mamba_slm.data.curation.lines.config import LinesConfig
from mamba_slm.data.curation.lines.definition import LENGTH_SEED

SOURCE = Path(__file__).with_name("lines.cpp")
NEWLINE = ord("\n")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """All lines of some texts, in order."""

    hashes: NDArray[np.uint64]
    """[lines] `line_hash`."""

    num_words: NDArray[np.int64]

    starts: NDArray[np.int64]
    """[texts + 1] the first line of each text, and how many there are."""

    def texts(self) -> NDArray[np.int64]:
        """[lines] the text of each."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def long_enough(self, config: LinesConfig) -> NDArray[np.bool_]:
        """[lines] whether a line counts."""
        return self.num_words >= config.min_words


def lines_of(texts: Texts) -> Lines:
    """The lines of texts; an empty text has one.

    Raises:
        OutOfMemoryError: a line needs more memory than there is, about 20 times its size.
    """
    offsets, starts = line_offsets(texts)
    hash_lines = hash_portable if native_library() is None else hash_native
    hashes, num_words = hash_lines(Texts(data=texts.data, offsets=offsets))
    return Lines(hashes=hashes, num_words=num_words, starts=starts)


def line_offsets(texts: Texts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where lines begin, the "\\n" before them included, and which line is the first of each text."""
    breaks = np.flatnonzero(texts.data[texts.offsets[0] : texts.offsets[-1]] == NEWLINE) + texts.offsets[0]
    before = np.searchsorted(breaks, texts.offsets)
    # Of several borders at one place, those of texts come first: a text that begins with "\n" has an empty line before.
    offsets = np.insert(breaks, before, texts.offsets)
    return offsets.astype(np.int64), before + np.arange(len(texts.offsets))


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The compiled code, or None where it cannot be had; says which, once, with the reason."""
    try:
        library = load_library(SOURCE)
    except SetupError as error:
        log.warning("lines=numpy (%s); compiled ones are 20 times faster", error.message)
        return None
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    lines = (pointer, pointer, number, pointer, ctypes.c_uint64)
    declare(library, "lines_hash", *lines, pointer, pointer, result=number)
    log.info("lines=native (compiled %s)", SOURCE.name)
    return library


def hash_native(lines: Texts) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash and number of words of each line, in C++."""
    library = native_library()
    assert library is not None
    hashes, num_words = np.empty(len(lines), np.uint64), np.empty(len(lines), np.int64)
    failed = library.lines_hash(
        *(lines.data.ctypes.data, lines.offsets.ctypes.data, len(lines), character_table().ctypes.data, LENGTH_SEED),
        *(hashes.ctypes.data, num_words.ctypes.data),
    )
    if failed:
        raise OutOfMemoryError(f"no memory for the lines of {len(lines.data):,} bytes", hint="use smaller batches")
    return hashes, num_words


def hash_portable(lines: Texts) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The same in numpy."""
    words, counts = word_hashes(lines)
    places = (position_in_run(counts) + 1).astype(np.uint64)
    total = sum_of_runs(mixed(words + places * np.uint64(GOLDEN)), counts)
    return mixed(total ^ mixed(counts.astype(np.uint64) + np.uint64(LENGTH_SEED))), counts
