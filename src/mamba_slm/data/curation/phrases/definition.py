"""Phrases in texts, in plain Python: the definition that the fast ways equal.

Words are those of duplicates (`duplicates/definition.py`): case, accents, punctuation and white space never count, and
a character of a script without spaces is a word. A phrase is 1 to 16 words in a row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mamba_slm.data.curation.duplicates.characters import ALONE, CLASS_SHIFT, DROPPED, WORD, character_table
from mamba_slm.data.curation.duplicates.definition import GOLDEN, MASK, mix, random_words

MAX_PHRASE_WORDS = 16
FACTORS = [value | 1 for value in random_words(6, MAX_PHRASE_WORDS)]
"""One odd number per place in a phrase."""

Phrase = tuple[str, ...]


class Folding(dict[int, str]):
    """What `str.translate` makes of each code point, so that `str.split` finds the words."""

    def __missing__(self, point: int) -> str:
        entry = int(character_table()[point])
        kind, folded = entry >> CLASS_SHIFT, chr(entry & (1 << CLASS_SHIFT) - 1)
        self[point] = {WORD: folded, ALONE: f" {folded} ", DROPPED: ""}.get(kind, " ")
        return self[point]


FOLDING = Folding()


def words_of(text: str) -> list[str]:
    """The words, folded; the same as `duplicates.definition.words_of`, and much faster.

    >>> words_of("L'Élan vital\\u200b — 漢字, x_1!")
    ['l', 'elan', 'vital', '漢', '字', 'x', '1']
    """
    return text.translate(FOLDING).split()


def find_all(words: Sequence[str], phrases: Collection[Phrase]) -> list[tuple[int, Phrase]]:
    """Every occurrence of every phrase with the number of its first word; at one place the longest phrase first.

    >>> find_all(["a", "b", "a"], {("a",), ("a", "b")})
    [(0, ('a', 'b')), (0, ('a',)), (2, ('a',))]
    """
    lengths = sorted({len(phrase) for phrase in phrases}, reverse=True)
    found = []
    for place in range(len(words)):
        for length in lengths:
            phrase = tuple(words[place : place + length])
            if len(phrase) == length and phrase in phrases:
                found.append((place, phrase))
    return found


def find_longest(words: Sequence[str], phrases: Collection[Phrase]) -> list[tuple[int, Phrase]]:
    """From left to right the longest phrase that begins at a word, and on behind it, so that none overlap.

    >>> find_longest(["a", "b", "a"], {("a",), ("a", "b"), ("b", "a")})
    [(0, ('a', 'b')), (2, ('a',))]
    """
    found, end = [], 0
    for place, phrase in find_all(words, phrases):
        if place >= end:
            found.append((place, phrase))
            end = place + len(phrase)
    return found


def phrase_hash(hashes: Sequence[int]) -> int:
    """64 bits of the word hashes of a phrase (`duplicates.definition.word_hash`) and of their number."""
    return mix(sum_of(hashes) + len(hashes) * GOLDEN & MASK)


def anchor_hash(hashes: Sequence[int]) -> int:
    """64 bits of the first words of a phrase: what is looked up before anything else."""
    return mix(sum_of(hashes))


def sum_of(hashes: Sequence[int]) -> int:
    """Each word hash times the factor of its place."""
    return sum(factor * value for factor, value in zip(FACTORS, hashes, strict=False)) & MASK
