"""Find phrases in many texts: in C++ where there is a compiler, else in numpy, with the same result."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """The words of texts as their hashes."""

    hashes: NDArray[np.uint64]
    """[words] of all texts one after another, `duplicates.definition.word_hash`."""

    starts: NDArray[np.int64]
    """[texts + 1] where those of each text begin, and where the last ones end."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of_text(self, number: int) -> NDArray[np.uint64]:
        """Those of one text: a view."""
        return self.hashes[self.starts[number] : self.starts[number + 1]]

    @classmethod
    def joined(cls, texts: Sequence[NDArray[np.uint64]]) -> Words:
        """Of texts whose words are there already."""
        counts = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(hashes=np.concatenate([np.zeros(0, np.uint64), *texts]), starts=starts_of(counts))


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


def find_phrases(texts: Sequence[str] | Words, phrases: PhraseSet, *, overlapping: bool = False) -> Found:
    """Occurrences of phrases in texts, each text alone.

    Args:
        texts: valid Unicode, or its words, which are worth keeping where several sets are looked for.
        phrases: what is looked for.
        overlapping: every occurrence of every phrase; else from left to right the longest one.

    Raises:
        OutOfMemoryError: as `words_in`.
    """
    words = texts if isinstance(texts, Words) else words_in(texts)
    find = find_portable if native_library() is None else find_native
    return find(words, phrases, overlapping)


def words_in(texts: Sequence[str]) -> Words:
    """The words of texts.

    Raises:
        OutOfMemoryError: a text needs more memory than there is, about 20 times its size.
    """
    encoded = Texts.of([text.encode() for text in texts])
    library = native_library()
    if library is None:
        hashes, counts = word_hashes(encoded)
        return Words(hashes=hashes, starts=starts_of(counts))
    hashes = np.empty(len(encoded.data) // 2 + len(encoded), np.uint64)  # only what is used is touched
    starts = np.empty(len(encoded) + 1, np.int64)
    done = library.phrases_split(
        *(encoded.data.ctypes.data, encoded.offsets.ctypes.data, len(encoded), character_table().ctypes.data),
        *(hashes.ctypes.data, starts.ctypes.data),
    )
    if done < 0:
        raise OutOfMemoryError(f"no memory for the words of {len(encoded.data):,} bytes", hint="use smaller batches")
    return Words(hashes=hashes[: starts[-1]].copy(), starts=starts)


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The compiled code, or None where it cannot be had; says which, once, with the reason."""
    try:
        library = load_library(SOURCE)
    except SetupError as error:
        log.warning("phrases=numpy (%s); compiled ones are 20 times faster", error.message)
        return None
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    texts, filtered = (pointer, pointer, number), (pointer, pointer, number, number)
    looked_for = (pointer, pointer, number, pointer, pointer, pointer, number)
    declare(library, "phrases_split", *texts, *[pointer] * 3, result=number)
    declare(library, "phrases_find", *texts, *filtered, *looked_for, number, *[pointer] * 3, result=number)
    declare(library, "phrases_count", *texts, *filtered, *looked_for, pointer, number, number, pointer)
    log.info("phrases=native (compiled %s)", SOURCE.name)
    return library


def find_native(words: Words, phrases: PhraseSet, overlapping: bool) -> Found:
    """`find_phrases` in C++."""
    library = native_library()
    assert library is not None
    room = len(words.hashes) * (len(phrases.lengths) if overlapping else 1)
    out = np.empty((3, room), np.int32)  # only what is used is touched
    found = library.phrases_find(*arguments_of(words, phrases), overlapping, *(row.ctypes.data for row in out))
    text, place, phrase = out[:, :found].astype(np.int64)
    return Found(texts=text, places=place, phrases=phrase, num_words=np.diff(words.starts))


def arguments_of(words: Words, phrases: PhraseSet) -> Iterator[int]:
    """The first arguments of `phrases_find` and `phrases_count`."""
    anchors, hashes = phrases.anchor_buckets, phrases.hash_buckets
    yield from (words.hashes.ctypes.data, words.starts.ctypes.data, len(words))
    yield from (FACTOR_ARRAY.ctypes.data, phrases.filter.ctypes.data, phrases.filter_bits, phrases.anchor_words)
    yield from (phrases.anchors.ctypes.data, anchors.starts.ctypes.data, anchors.bits)
    yield phrases.anchor_lengths.ctypes.data
    yield from (phrases.hashes.ctypes.data, hashes.starts.ctypes.data, hashes.bits)


def find_portable(words: Words, phrases: PhraseSet, overlapping: bool) -> Found:
    """`find_phrases` in numpy."""
    hashes_of_words, starts = words.hashes, words.starts
    num_words = np.diff(starts)
    text_of = np.repeat(np.arange(len(words)), num_words)
    ends = np.repeat(starts[1:], num_words)
    begins = np.flatnonzero(ends - np.arange(len(hashes_of_words)) >= phrases.anchor_words)
    begins = begins[np.isin(mixed(sums_at(hashes_of_words, begins, phrases.anchor_words)), phrases.anchors)]
    rows: list[tuple[int, int, int]] = []
    for length in phrases.lengths:
        here = begins[ends[begins] - begins >= length]
        hashes = mixed(sums_at(hashes_of_words, here, length) + np.uint64(length * GOLDEN & MASK))
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
