"""One table of classes: the definition of every code point, and the same as Python's own methods."""

import sys
import unicodedata

import numpy as np

from mamba_slm.data.curation.signals.characters import (
    ALPHABETIC,
    DIGIT,
    UPPER,
    WHITE,
    character_table,
    class_of,
    has_class,
)


def test_the_table_holds_the_class_of_every_code_point():
    table = character_table()
    stored = table.blocks[table.index].reshape(-1)
    assert len(stored) == sys.maxunicode + 1
    unlike = [code for code in range(sys.maxunicode + 1) if stored[code] != class_of(chr(code))]
    assert not unlike, [unicodedata.name(chr(code), hex(code)) for code in unlike[:10]]


def test_words_are_those_of_split():
    table = character_table()
    white = "".join(map(chr, np.flatnonzero(table.blocks[table.index].reshape(-1) & WHITE)))
    assert not white.split() and len(white) == 29


def test_classes_are_those_of_strings():
    for character in "aZß٣9_Ⅷⓐ中ªǅ̈\0\ud800":
        assert has_class(character, ALPHABETIC) == character.isalpha()
        assert has_class(character, DIGIT) == character.isdecimal()
        assert has_class(character, UPPER) == character.isupper()


def test_white_leads_are_first_bytes_of_white_characters():
    assert set(np.flatnonzero(character_table().white_leads)) == {0xC2, 0xE1, 0xE2, 0xE3}
