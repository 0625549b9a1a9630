"""What each character means to the gate, by fixed ranges of Unicode that no version of Python changes.

Letters of the Latin script are folded to lower case and spell words. Letters of other scripts are evidence against
English by themselves, whichever they are. Symbols, emoji and punctuation above ASCII part words like white space.
"""

from __future__ import annotations

import functools

import numpy as np

SPACE, FOREIGN, APOSTROPHE = " ", "\uffff", "'"
"""What characters are folded to; U+FFFF is no character."""

APOSTROPHES = frozenset("'\u2018\u2019\u02bc")
LATIN = ((0x00C0, 0x036F), (0x1E00, 0x1EFF))
"""Letters, modifiers and combining marks of words in Latin script, first and last code point."""
NO_LETTERS = (
    *((0x0080, 0x00BF), (0x00D7, 0x00D7), (0x00F7, 0x00F7), (0x2000, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x303F)),
    *((0xD800, 0xF8FF), (0xFE00, 0xFE3F), (0xFF00, 0xFF3F), (0xFFC0, 0xFFFF), (0x1D000, 0x1FBFF), (0xE0000, 0x10FFFF)),
)
"""Punctuation, symbols, surrogates, private use, presentation forms, emoji, tags."""

FOLDED = 0x2C00
"""Below it every code point has an entry of its own, above it every block does."""
BLOCK_BITS = 6


def fold(code: int) -> str:
    """What a code point is folded to: one character.

    >>> fold(ord("É")), fold(ord("—")), fold(ord("\\u2019")), fold(ord("д")) == FOREIGN, fold(ord("{"))
    ('é', ' ', "'", True, '{')
    """
    character = chr(code)
    if character in APOSTROPHES:
        return APOSTROPHE
    if code < 0x80:
        return character.lower() if character == "\n" or 0x20 < code < 0x7F else SPACE
    if any(first <= code <= last for first, last in NO_LETTERS):
        return SPACE
    if not is_latin(code):
        return FOREIGN
    lower = character.lower()
    return lower if len(lower) == 1 and is_latin(ord(lower)) else character


def is_latin(code: int) -> bool:
    """Whether a code point above ASCII belongs to words in Latin script."""
    return any(first <= code <= last for first, last in LATIN)


@functools.cache
def folding() -> dict[int, str]:
    """As `fold`, for `str.translate`, of the code points that have an entry of their own."""
    return {code: fold(code) for code in range(FOLDED)}


class Folding(dict[int, str]):
    """As `folding`, of every code point."""

    def __missing__(self, code: int) -> str:
        """Blocks above are the same throughout."""
        self[code] = folded = fold(code)
        return folded


@functools.cache
def every_folding() -> Folding:
    """One for the process, which remembers what it met."""
    return Folding(folding())


@functools.cache
def folding_arrays() -> tuple[np.ndarray, np.ndarray]:
    """For compiled code: [FOLDED] uint16, then [17408] uint16 for blocks of 64 code points."""
    own = np.array([ord(character) for character in folding().values()], np.uint16)
    blocks = np.array([ord(fold(first)) for first in range(0, 0x110000, 1 << BLOCK_BITS)], np.uint16)
    return own, blocks
