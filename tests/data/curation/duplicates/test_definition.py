"""What a word, a shingle, a duplicate is."""

import unicodedata
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.duplicates.characters import TABLE_FILE, UNICODE_VERSION, character_table, lines_of_table
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.definition import jaccard, kept_and_removed, shingles_of, words_of


@pytest.mark.skipif(
    unicodedata.unidata_version != UNICODE_VERSION,
    reason=f"this Python knows Unicode {unicodedata.unidata_version}, the table is frozen at {UNICODE_VERSION}",
)
def test_the_table_is_what_unicode_says():
    assert TABLE_FILE.read_text(encoding="ascii").splitlines() == list(lines_of_table())


def test_the_table_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        character_table()[65] = 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Hello, World!", "hello world"),
        ("tab\tand\nline", "tab and line"),
        ("\u00e9lan", "e\u0301lan"),
        ("Straße Σίσυφος", "straße σισυφοσ"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("漢字かな", "漢 字 か な"),
        ("non\u00a0breaking — dash", "non breaking dash"),
    ],
)
def test_case_white_space_punctuation_and_accents_do_not_count(first, second):
    assert words_of(first) == words_of(second)


@pytest.mark.parametrize(("first", "second"), [("ab c", "a bc"), ("1 2", "12"), ("straße", "strasse"), ("a1", "a 1")])
def test_where_words_end_and_which_letters_they_have_counts(first, second):
    assert words_of(first) != words_of(second)
    assert not shingles_of(first) & shingles_of(second)


def test_short_texts_are_one_shingle_that_no_longer_text_has():
    assert len(shingles_of("a b c d")) == 1
    assert len(shingles_of("a b c d e")) == 1
    assert len(shingles_of("a b c d e f")) == 2
    assert not shingles_of("a b c d") & shingles_of("a b c d e")
    assert shingles_of("") == shingles_of("?! …") == frozenset()


@given(st.text(max_size=60), st.text(max_size=60))
def test_jaccard_is_symmetric_and_1_only_for_equal_sets(first, second):
    a, b = shingles_of(first), shingles_of(second)
    assert jaccard(a, b) == jaccard(b, a)
    assert (jaccard(a, b) == 1) == (a == b and bool(a))
    assert 0 <= jaccard(a, b) <= 1


@given(st.text(max_size=200))
def test_words_are_folded_once_and_for_all(text):
    words = words_of(text)
    assert words_of(" ".join(words)) == words


def test_a_chain_never_removes_what_no_kept_document_duplicates():
    links = {(0, 1), (1, 2), (2, 3)}
    assert kept_and_removed(4, lambda a, b: (min(a, b), max(a, b)) in links, lambda n: (0, n)) == {1: 0, 3: 2}
    assert kept_and_removed(4, lambda a, b: (min(a, b), max(a, b)) in links, lambda n: (0, n != 1)) == {0: 1, 2: 1}


def test_bands_that_miss_too_much_are_refused():
    assert DuplicatesConfig().miss_probability(0.8) < 0.0014
    assert DuplicatesConfig().exact_threshold == Fraction(4, 5)
    with pytest.raises(ConfigError, match=r"16 bands of 8 rows miss 5\.3% of the pairs at threshold 0\.8"):
        DuplicatesConfig(bands=16, rows=8)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"group_limit": 1}, {"memory_bytes": 1}, {"rows": 0}]
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DuplicatesConfig(**wrong)
