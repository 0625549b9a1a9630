"""Every character is folded by fixed ranges of Unicode."""

import unicodedata

from mamba_slm.data.curation.language.characters import (
    APOSTROPHE,
    BLOCK_BITS,
    FOLDED,
    FOREIGN,
    SPACE,
    every_folding,
    fold,
    folding_arrays,
)


def test_letters_of_latin_script_become_lower_case():
    assert [fold(ord(letter)) for letter in "aZÀßŁṬẸ\u0301"] == [*"azàßłṭẹ\u0301"]
    assert fold(ord("İ")) == "İ", "a lower case of two characters is none"


def test_letters_of_other_scripts_are_foreign():
    assert {fold(ord(letter)) for letter in "ЖאعहไჟกΩあ中한𠀀ꙮ"} == {FOREIGN}


def test_signs_above_ascii_part_words_and_apostrophes_are_one():
    assert {fold(ord(sign)) for sign in "×÷–—…“”«»。、！￥🙂™\u200b\u3000\ue000\ud800\uffff"} == {SPACE}
    assert {fold(ord(sign)) for sign in "'’‘ʼ"} == {APOSTROPHE}


def test_ascii_keeps_its_marks_and_has_no_control_characters_but_the_line_end():
    assert (
        "".join(fold(code) for code in range(128))
        == " " * 10 + "\n" + " " * 22 + "".join(map(chr, range(33, 127))).lower() + " "
    )


def test_letters_taken_for_signs_are_symbols_of_mathematics_and_full_width_forms():
    letters = [code for code in range(0x80, 0x1D000) if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo")]
    signs = [code for code in letters if fold(code) == SPACE]
    symbols = (0xAA, 0xB5, 0xBA, 0x3006, 0x303C, *range(0x2000, 0x2C00), *range(0xFF00, 0x10000))
    assert set(signs) <= set(symbols), [hex(code) for code in signs if code not in symbols]


def test_the_arrays_of_the_compiled_code_hold_the_same():
    own, blocks = folding_arrays()
    translate = every_folding()
    for code in [*range(0x3000), *range(0x3000, 0x110000, 13)]:
        found = own[code] if code < FOLDED else blocks[code >> BLOCK_BITS]
        assert chr(found) == fold(code) == translate[code], hex(code)
