"""What each character counts as when texts are compared: one table, read by the C++ and the Python side alike.

`characters.txt` is frozen at Unicode 14.0, so that a newer Python does not change what a duplicate is. Every code point
is one of

    separator   between words: white space, punctuation, symbols, controls, and whatever is not listed
    word        part of a word, after folding: letters, marks and digits
    alone       a word by itself: Han, kana, Thai, Lao, Khmer and Burmese are written without spaces
    dropped     as if it were not there: soft hyphen, zero-width characters, the accents U+0300 to U+036F

Folding maps one character to one: Unicode case folding where that gives a single character, else lower case, and
letters that are a base with accents of U+0300 to U+036F to their base. So "Élan" is the word "elan".
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TABLE_FILE = Path(__file__).with_name("characters.txt")
UNICODE_VERSION = "14.0.0"
NUM_CODE_POINTS = 0x110000
CLASS_SHIFT = 30
SEPARATOR, WORD, ALONE, DROPPED = range(4)
CLASSES = {"word": WORD, "alone": ALONE, "dropped": DROPPED}
ACCENTS = range(0x300, 0x370)
UNSPACED = (
    (range(0x0E00, 0x0F00), "Thai, Lao"),
    (range(0x1000, 0x10A0), "Burmese"),
    (range(0x1780, 0x1800), "Khmer"),
    (range(0x3005, 0x3008), "iteration marks"),
    (range(0x3040, 0x3100), "kana"),
    (range(0x31F0, 0x3200), "kana"),
    (range(0x3400, 0xA000), "Han"),
    (range(0xF900, 0xFB00), "Han"),
    (range(0xFF66, 0xFF9E), "kana"),
    (range(0x20000, 0x40000), "Han"),
)
"""Blocks whose letters, marks and digits are words by themselves."""


@functools.cache
def character_table() -> NDArray[np.uint32]:
    """For each code point its class, shifted left by `CLASS_SHIFT`, and the code point it folds to. Read-only."""
    table = np.zeros(NUM_CODE_POINTS, np.uint32)
    folds: list[tuple[slice, int]] = []
    for line in TABLE_FILE.read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            continue
        kind, first, last, *rest = line.split()
        if kind == "fold":
            step, shift = map(int, rest)
            folds.append((slice(int(first, 16), int(last, 16) + 1, step), shift))
        else:
            span = slice(int(first, 16), int(last, 16) + 1)
            table[span] = np.arange(span.start, span.stop, dtype=np.uint32) | np.uint32(CLASSES[kind] << CLASS_SHIFT)
    for span, shift in folds:
        table[span] = (table[span].astype(np.int64) + shift).astype(np.uint32)
    table.setflags(write=False)
    return table


def class_of(character: str) -> int:
    """The class by the Unicode data of the running Python; `characters.txt` is made from it."""
    category = unicodedata.category(character)
    if ord(character) in ACCENTS or category == "Cf":
        return DROPPED
    if category[0] not in "LMN":
        return SEPARATOR
    return ALONE if any(ord(character) in block for block, _ in UNSPACED) else WORD


def fold_of(character: str) -> str:
    """The one character that `character` counts as, by the Unicode data of the running Python."""
    base, *marks = unicodedata.normalize("NFD", character)
    if marks and not all(ord(mark) in ACCENTS for mark in marks):
        base = character
    for folded in (base.casefold(), base.lower()):
        if len(folded) == 1 and class_of(folded) == class_of(base):
            return folded
    return base


def lines_of_table() -> Iterator[str]:
    """The lines of `characters.txt`, from the Unicode data of the running Python."""
    yield f"# Made by characters.py from Unicode {unicodedata.unidata_version}."
    yield "# CLASS FIRST LAST (hexadecimal), and fold FIRST LAST STEP SHIFT; not listed: separator."
    classes = [class_of(chr(point)) for point in range(NUM_CODE_POINTS)]
    names = {number: name for name, number in CLASSES.items()}
    start = 0
    for point in range(1, NUM_CODE_POINTS + 1):
        if point == NUM_CODE_POINTS or classes[point] != classes[start]:
            if classes[start] != SEPARATOR:
                yield f"{names[classes[start]]} {start:X} {point - 1:X}"
            start = point
    shifts = {
        point: shift
        for point in range(NUM_CODE_POINTS)
        if classes[point] in (WORD, ALONE) and (shift := ord(fold_of(chr(point))) - point)
    }
    while shifts:
        first = min(shifts)
        shift = shifts.pop(first)
        step = next((step for step in (1, 2) if shifts.get(first + step) == shift), 1)
        last = first
        while shifts.get(last + step) == shift:
            last += step
            del shifts[last]
        yield f"fold {first:X} {last:X} {step} {shift}"
