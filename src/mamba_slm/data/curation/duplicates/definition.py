"""The definition, slow and plain: the fast ways are tested against it to the last bit.

1. Words. Characters are dropped or folded one by one (`characters.py`); then words are the maximal runs of word
   characters, and every character that stands alone. White space, punctuation and case therefore never count.
2. Shingles. Every 5 words in a row, as a set; 1 to 4 words are one shingle, which equals no longer one. A text without
   words has no shingles.
3. Exact duplicates have the same words in the same order; texts without words the same bytes.
4. Near-duplicates have a Jaccard similarity, shingles in common / shingles in either, of at least the threshold.
5. Which one stays. Documents have a rank: higher quality first, then a hash of text and id, so that neither the order
   of files nor the workers matter. In the order of rank each document stays, unless a better one *that stays* is its
   duplicate. So everything removed has a kept duplicate at or above the threshold, and a chain a~b~c never removes c
   because of a.

Words and shingles are compared by 64-bit hashes, documents for exact duplicates by 128 bits. The hashes are quick and
even, not made to resist somebody who looks for collisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from mamba_slm.data.curation.duplicates.characters import ALONE, CLASS_SHIFT, DROPPED, WORD, character_table
from mamba_slm.data.curation.duplicates.config import SHINGLE_WORDS

MASK = (1 << 64) - 1
GOLDEN, MULTIPLY_1, MULTIPLY_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014."""


def mix(value: int) -> int:
    """The finalizer of splitmix64: a bijection of 64 bits."""
    value = (value ^ value >> 30) * MULTIPLY_1 & MASK
    value = (value ^ value >> 27) * MULTIPLY_2 & MASK
    return value ^ value >> 31


def random_words(seed: int, count: int) -> list[int]:
    """The first `count` numbers of splitmix64: where all constants come from."""
    return [mix((seed + (i + 1) * GOLDEN) & MASK) for i in range(count)]


WORD_FACTORS = [value | 1 for value in random_words(1, SHINGLE_WORDS)]


def words_of(text: str) -> list[str]:
    """The words, folded.

    >>> words_of("L'Élan vital\\u200b — 漢字, x_1!")
    ['l', 'elan', 'vital', '漢', '字', 'x', '1']
    """
    table = character_table()
    words, word = [], ""
    for character in text:
        entry = int(table[ord(character)])
        kind, folded = entry >> CLASS_SHIFT, chr(entry & (1 << CLASS_SHIFT) - 1)
        if kind == DROPPED:
            continue
        if kind == WORD:
            word += folded
            continue
        words += [word] * bool(word) + [folded] * (kind == ALONE)
        word = ""
    return words + [word] * bool(word)


def word_hash(word: str) -> int:
    """64 bits of the UTF-8 bytes, 8 at a time, the last ones padded with zeros; the length counts."""
    data = word.encode()
    state = len(data) * GOLDEN & MASK
    for i in range(0, len(data), 8):
        state = (state ^ int.from_bytes(data[i : i + 8], "little")) * MULTIPLY_1 & MASK
        state ^= state >> 32
    return state


def shingle_hash(hashes: Sequence[int]) -> int:
    """64 bits of 1 to 5 word hashes in a row; a missing word counts as 0."""
    return mix(sum(factor * value for factor, value in zip(WORD_FACTORS, hashes, strict=False)) & MASK)


def shingles_of(text: str) -> frozenset[int]:
    """The set of shingle hashes.

    >>> len(shingles_of("one two three four five six")), len(shingles_of("one two")), len(shingles_of("?!"))
    (2, 1, 0)
    """
    hashes = [word_hash(word) for word in words_of(text)]
    windows = max(len(hashes) - SHINGLE_WORDS + 1, min(len(hashes), 1))
    return frozenset(shingle_hash(hashes[i : i + SHINGLE_WORDS]) for i in range(windows))


def jaccard(first: frozenset[int], second: frozenset[int]) -> Fraction:
    """Shingles in common / shingles in either; 0 without any.

    >>> jaccard(frozenset({1, 2, 3}), frozenset({2, 3, 4}))
    Fraction(1, 2)
    """
    either = len(first | second)
    return Fraction(len(first & second), either) if either else Fraction(0)


def kept_and_removed(
    count: int, is_duplicate: Callable[[int, int], bool], rank: Callable[[int], tuple[int, int]]
) -> dict[int, int]:
    """Rule 5 on `count` documents, by comparing each with all that stay: what is removed, and for which better one.

    The chain 0~1~2: document 1 goes because of 0, and 2 stays, as it is no duplicate of 0.

    >>> kept_and_removed(3, lambda a, b: abs(a - b) == 1, lambda document: (0, document))
    {1: 0}
    """
    kept: list[int] = []
    removed: dict[int, int] = {}
    for document in sorted(range(count), key=rank):
        better = next((other for other in kept if is_duplicate(document, other)), None)
        if better is None:
            kept.append(document)
        else:
            removed[document] = better
    return removed
