"""Find phrases in many texts: in C++ where there is a compiler, else in numpy, with the same result."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import OutOfMemoryError, SetupError
from mamba_slm.core.native import declare, load_library
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.characters import character_table
from mamba_slm.data.curation.duplicates.definition import GOLDEN, MASK
from mamba_slm.data.curation.duplicates.portable import mixed, starts_of, word_hashes
from mamba_slm.data.curation.phrases.definition import FACTORS
from mamba_slm.data.curation.phrases.phrase_set import PhraseSet

SOURCE = Path(__file__).with_name("phrases.cpp")
FACTOR_ARRAY = np.array(FACTORS, np.uint64)
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Occurrences in the order of texts and places."""

    texts: NDArray[np.int64]
    """[found] number of the text."""

    places: NDArray[np.int64]
    """[found] number of the phrase's first word in the text."""

    phrases: NDArray[np.int64]
    """[found] place in `PhraseSet.hashes`."""

    num_words: NDArray[np.int64]
    """[texts] how many words each text has."""


def find_phrases(texts: Sequence[str], phrases: PhraseSet, *, overlapping: bool = False) -> Found:
    """Occurrences of phrases in texts, each text alone.

    Args:
        texts: valid Unicode.
        phrases: what is looked for.
        overlapping: every occurrence of every phrase; else from left to right the longest one.

    Raises:
        OutOfMemoryError: a text needs more memory than there is, about 20 times its size.
    """
    encoded = Texts.of([text.encode() for text in texts])
    find = find_portable if native_library() is None else find_native
    return find(encoded, phrases, overlapping)


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The compiled code, or None where it cannot be had; says which, once, with the reason."""
    try:
        library = load_library(SOURCE)
    except SetupError as error:
        log.warning("phrases=numpy (%s); compiled ones are 20 times faster", error.message)
        return None
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    texts, table, filtered = (pointer, pointer, number), (pointer,), (pointer, pointer, number, number)
    looked_for = (pointer, pointer, number, pointer, pointer, pointer, number)
    declare(library, "phrases_find", *texts, *table, *filtered, *looked_for, number, *[pointer] * 4, result=number)
    log.info("phrases=native (compiled %s)", SOURCE.name)
    return library


def find_native(texts: Texts, phrases: PhraseSet, overlapping: bool) -> Found:
    """`find_phrases` in C++."""
    library = native_library()
    assert library is not None
    room = len(texts.data) // 2 + len(texts) + 1
    out = np.empty((3, room * (len(phrases.lengths) if overlapping else 1)), np.int32)  # only what is used is touched
    num_words = np.empty(len(texts), np.int64)
    anchors, hashes = phrases.anchor_buckets, phrases.hash_buckets
    found = library.phrases_find(
        *(texts.data.ctypes.data, texts.offsets.ctypes.data, len(texts), character_table().ctypes.data),
        *(FACTOR_ARRAY.ctypes.data, phrases.filter.ctypes.data, phrases.filter_bits, phrases.anchor_words),
        *(phrases.anchors.ctypes.data, anchors.starts.ctypes.data, anchors.bits, phrases.anchor_lengths.ctypes.data),
        *(phrases.hashes.ctypes.data, hashes.starts.ctypes.data, hashes.bits, overlapping),
        *(row.ctypes.data for row in out),
        num_words.ctypes.data,
    )
    if found < 0:
        raise OutOfMemoryError(f"no memory for the words of {len(texts.data):,} bytes", hint="use smaller batches")
    text, place, phrase = out[:, :found].astype(np.int64)
    return Found(texts=text, places=place, phrases=phrase, num_words=num_words)


def find_portable(texts: Texts, phrases: PhraseSet, overlapping: bool) -> Found:
    """`find_phrases` in numpy."""
    words, num_words = word_hashes(texts)
    text_of = np.repeat(np.arange(len(texts)), num_words)
    starts = starts_of(num_words)
    ends = np.repeat(starts[1:], num_words)
    begins = np.flatnonzero(ends - np.arange(len(words)) >= phrases.anchor_words)
    begins = begins[np.isin(mixed(sums_at(words, begins, phrases.anchor_words)), phrases.anchors)]
    rows: list[tuple[int, int, int]] = []
    for length in phrases.lengths:
        here = begins[ends[begins] - begins >= length]
        hashes = mixed(sums_at(words, here, length) + np.uint64(length * GOLDEN & MASK))
        number = np.searchsorted(phrases.hashes[:-1], hashes)
        is_found = phrases.hashes[number] == hashes
        rows += [
            (place, -length, n) for place, n in zip(here[is_found].tolist(), number[is_found].tolist(), strict=True)
        ]
    rows.sort()
    if not overlapping:
        kept, end = [], 0
        for place, negative_length, number in rows:
            if place >= end:
                kept.append((place, negative_length, number))
                end = place - negative_length
        rows = kept
    place, _, phrase = np.array(rows, np.int64).reshape(-1, 3).T
    text = text_of[place]
    return Found(texts=text, places=place - starts[text], phrases=phrase, num_words=num_words)


def sums_at(words: NDArray[np.uint64], places: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """`definition.sum_of` of `count` words from each place."""
    total = np.zeros(len(places), np.uint64)
    for k in range(count):
        total += words[places + k] * FACTOR_ARRAY[k]
    return total
