"""What a character counts as, in one table that the definition and the compiled code both read.

The classes come from the Unicode data of the running Python, so that `str.split` and the compiled code agree about
every code point. Another Python may know more letters: `UNICODE_VERSION` belongs into whatever names a result.
"""

from __future__ import annotations

import functools
import string
import unicodedata
from dataclasses import dataclass

import numpy as np

UNICODE_VERSION = unicodedata.unidata_version

WHITE, ALPHABETIC, DIGIT, UPPER, SENTENCE_END, CLOSER, BULLET, DASH = (1 << bit for bit in range(8))
"""Bits of a class: white space separates words; a closer may follow the end of a sentence; a bullet begins a list's
line even when glued to the word after it, a dash only when it stands alone."""

SENTENCE_ENDS = ".!?…‼‽⁇⁈⁉。．！？｡؟۔।॥։՜՞።፧។៕᠃᠉၊။꓿"
ASCII_CLOSERS = "\"')]}*_`"
CLOSER_CATEGORIES = ("Pe", "Pf", "Pi")
BULLETS = "•‣⁃◦∙·●○▪▫■□▶►➢➤✓✔"
DASHES = "-*+–—"
ASCII_PUNCTUATION = string.punctuation
LAST_CLASSIFIED = 0x3FFFF
"""Everything above is private, unassigned, or a tag, and has no class."""
BLOCK = 256
WITHOUT_CLASS = frozenset({"Cf", "Cn", "Co", "Cs", "Mc", "Me", "Mn"})
"""Categories whose characters have no class, asked first because they are many."""


def class_of(character: str) -> int:
    """The bits of one character.

    >>> class_of("A") == ALPHABETIC | UPPER and class_of("\\u3000") == WHITE
    True
    """
    bits = WHITE * character.isspace() | ALPHABETIC * character.isalpha()
    bits |= DIGIT * character.isdecimal() | UPPER * character.isupper() | SENTENCE_END * (character in SENTENCE_ENDS)
    if character in ASCII_CLOSERS or unicodedata.category(character) in CLOSER_CATEGORIES:
        bits |= CLOSER
    return bits | BULLET * (character in BULLETS) | DASH * (character in DASHES)


@dataclass(frozen=True, kw_only=True)
class CharacterTable:
    """Class of every code point in two levels: `blocks[index[code >> 8]][code & 255]`."""

    index: np.ndarray
    """[4352] uint16: which block holds the classes of 256 code points."""

    blocks: np.ndarray
    """[blocks 256] uint8: bits."""

    white_leads: np.ndarray
    """[256] uint8: 1 for the first UTF-8 byte of every white character above ASCII."""

    def __getitem__(self, character: str) -> int:
        code = ord(character)
        return int(self.blocks[self.index[code >> 8], code & 255])


@functools.cache
def character_table() -> CharacterTable:
    """The table of this Python; takes a tenth of a second once per process and 80 KB."""
    classes = bytearray(0x110000)
    for code in range(LAST_CLASSIFIED + 1):
        category = unicodedata.category(character := chr(code))
        if category == "Lo":
            classes[code] = ALPHABETIC
        elif category not in WITHOUT_CLASS:
            classes[code] = class_of(character)
    all_blocks = np.frombuffer(classes, dtype=np.uint8).reshape(-1, BLOCK)
    blocks, index = np.unique(all_blocks, axis=0, return_inverse=True)
    white_leads = np.zeros(256, np.uint8)
    for code in range(0x80, LAST_CLASSIFIED + 1):
        if classes[code] & WHITE:
            white_leads[chr(code).encode()[0]] = 1
    return CharacterTable(
        index=index.reshape(-1).astype(np.uint16), blocks=np.ascontiguousarray(blocks), white_leads=white_leads
    )


@functools.lru_cache(1 << 16)
def has_class(character: str, bits: int) -> bool:
    """Whether a character has one of these bits."""
    return bool(character_table()[character] & bits)
