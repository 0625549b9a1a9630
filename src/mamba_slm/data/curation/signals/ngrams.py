"""Repetition of word n-grams: exact, on white-space words as they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)


def ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` words, by the place of their first word."""
    return list(zip(*(words[start:] for start in range(size)), strict=False))


def top_ngram_characters(words: Sequence[str], size: int) -> int:
    """Characters in the words covered by the most frequent n-gram; 0 where none occurs twice.

    Of equally frequent ones the first in the text counts. Words under overlapping occurrences are counted once, so that
    the share of all word characters is at most 1.
    """
    found = ngrams(words, size)
    counts = Counter(found)
    if not counts:
        return 0
    top = max(counts, key=lambda ngram: counts[ngram])
    if counts[top] < 2:
        return 0
    return covered_characters(words, (place for place, ngram in enumerate(found) if ngram == top), size)


def duplicate_ngram_characters(words: Sequence[str], size: int) -> int:
    """Characters in the words covered by n-grams equal to an earlier one, each word counted once.

    As with lines, the first occurrence is no duplicate. If it were one, Gopher's limits would remove twice as much.
    """
    seen: set[tuple[str, ...]] = set()
    places = []
    for place, ngram in enumerate(ngrams(words, size)):
        if ngram in seen:
            places.append(place)
        seen.add(ngram)
    return covered_characters(words, places, size)


def covered_characters(words: Sequence[str], places: Iterable[int], size: int) -> int:
    """Characters of the words in the union of [place, place + size)."""
    covered = {index for place in places for index in range(place, place + size)}
    return sum(len(words[index]) for index in covered)
