"""Every signal on texts whose counts can be seen by eye."""

import pytest

from mamba_slm.data.curation.signals.definition import COLUMN, NAMES, Signals, ends_sentence, measure, paragraphs_of
from mamba_slm.data.curation.signals.ngrams import duplicate_ngram_characters, top_ngram_characters

CASES = [
    ("one two\n three", {"characters": 14, "word_characters": 11, "words": 3, "distinct_words": 3}),
    ("a b a", {"words": 3, "distinct_words": 2}),
    ("A1 -- 22 é", {"alphabetic_words": 2, "alphabetic_characters": 2, "digit_characters": 3, "upper_characters": 1}),
    ("The cat (and THE dog) with", {"stop_words": 4, "distinct_stop_words": 3}),
    ('He left. "Why?" (Well.) no', {"sentences": 3}),
    ("# a ... b…  ......", {"hash_marks": 1, "ellipses": 4}),
    ("{ } x{}", {"curly_brackets": 4}),
    ("aaaab ===== bbb bb bbb", {"run_characters": 5, "longest_run": 5}),
    ("see https://a.b and (www.c.d) not wwww", {"link_words": 2, "link_characters": 20}),
    ("a\n\nb\r\n", {"newlines": 3, "lines": 2, "line_characters": 2, "longest_line": 1}),
    ("x y\n  x y \nz\nx y", {"lines": 4, "duplicate_lines": 2, "duplicate_line_characters": 6}),
    ("- a\n•b\n* c\n-d\n--\n— e", {"bullet_lines": 4, "lines": 6}),
    ("so...\nyes…\nno. .", {"ellipsis_lines": 2}),
    ("Done.\nnot\n“Yes!”\nx = (1)", {"terminal_lines": 2}),
    ("a" * 30 + "\n" + "b" * 31, {"short_lines": 1}),
    ("a b c d\na b c d e", {"few_word_lines": 1}),
    ("Enable JavaScript!\njavascript-free\nJAVASCRIPT, javascript", {"javascript_lines": 2}),
    ("Lorem ipsum dolor\nlorem\nipsum", {"lorem_ipsum_lines": 1}),
    ("Our terms of use.\nWe use “cookies”\nwe use cookies\nuse of cookies\nterms of", {"policy_lines": 3}),
    ("a\nb\n\n \nc\n\na\nb", {"paragraphs": 3, "paragraph_characters": 7, "duplicate_paragraphs": 1}),
    ("a\nb\n\n \nc\n\n a\nb ", {"duplicate_paragraphs": 1, "duplicate_paragraph_characters": 3}),
    ("aa b aa b aa", {"top_2gram_characters": 6, "top_3gram_characters": 8, "top_4gram_characters": 0}),
    ("1 2 3 4 55 x 1 2 3 4 55", {"duplicate_5gram_characters": 6, "duplicate_6gram_characters": 0}),
    ("", {}),
    (" \n\t", {"characters": 3, "newlines": 1}),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_signal_counts_what_its_definition_says(text, expected):
    signals = measure(text)
    assert {name: getattr(signals, name) for name in expected} == expected


def test_every_signal_is_shown_in_some_case():
    shown = {name for _, expected in CASES for name in expected}
    longer = {f"duplicate_{size}gram_characters" for size in range(7, 11)}
    assert set(NAMES) - shown == longer


def test_an_empty_text_counts_nothing():
    assert measure("") == Signals()
    assert COLUMN["characters"] == 0 and len(COLUMN) == len(NAMES)


def test_long_repetitions_are_covered_at_every_size():
    words = [*"abcdefghij"] * 2 + ["x"]
    assert [duplicate_ngram_characters(words, size) for size in range(5, 11)] == [10] * 6
    assert duplicate_ngram_characters(words[:-2], 10) == 0


def test_overlapping_occurrences_count_a_word_once():
    assert top_ngram_characters(["a"] * 5, 2) == 5
    assert duplicate_ngram_characters(["ab"] * 7, 6) == 12


def test_of_equally_frequent_ngrams_the_first_counts():
    assert top_ngram_characters(["a", "b", "x", "yyy", "zzz", "x", "a", "b", "x", "yyy", "zzz"], 2) == 4


def test_a_single_occurrence_is_no_repetition():
    assert top_ngram_characters(["only", "these"], 2) == 0


def test_closers_alone_end_no_sentence():
    assert not ends_sentence('")') and not ends_sentence("") and ends_sentence("。")


def test_paragraphs_keep_what_is_inside():
    assert paragraphs_of("\n  a \n   b\n\t\n\nc \n") == ["a \n   b", "c"]
