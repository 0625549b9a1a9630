"""Repeated lines and paragraphs go, everything else stays as it is, to the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.signals.definition import measure
from mamba_slm.data.curation.signals.repeats import REPEATS, RepeatsConfig, remove_repeats

ALL = RepeatsConfig(min_line_characters=1, min_paragraph_characters=1)
texts = st.lists(st.sampled_from(["a", "bb", " bb", "ccc ", "\n", "\n", "\n\n", " \n"]), max_size=40).map("".join)


@given(texts, st.sampled_from([None, 1, 2]), st.sampled_from([None, 1, 2, 4]))
def test_doing_it_again_changes_nothing(text, line, paragraph):
    config = RepeatsConfig(min_line_characters=line, min_paragraph_characters=paragraph)
    once = remove_repeats(text, config)
    again = remove_repeats(once.text, config)
    assert again.text == once.text and not again.lines and not again.paragraphs


@given(texts)
def test_what_stays_has_no_repeated_lines_and_keeps_its_order(text):
    result = remove_repeats(text, ALL)
    signals = measure(result.text)
    assert signals.duplicate_lines == 0 and signals.duplicate_paragraphs == 0
    assert signals.distinct_words == measure(text).distinct_words
    assert result.lines == measure(text).lines - signals.lines
    kept = iter(text.split("\n"))
    assert all(line in kept for line in result.text.split("\n") if line.strip())


def test_only_long_parts_are_removed():
    text = "yes\nyes\n" + "x" * 30 + "\nyes\n  " + "x" * 30
    result = remove_repeats(text, RepeatsConfig())
    assert result.text == "yes\nyes\n" + "x" * 30 + "\nyes"
    assert (result.lines, result.line_characters, result.paragraphs) == (1, 30, 0)


def test_a_paragraph_of_short_lines_is_removed_as_a_whole():
    text = "a b\nc d\n\nnew\n\na b\nc d\n\n\nend\n"
    result = remove_repeats(text, RepeatsConfig(min_line_characters=None, min_paragraph_characters=7))
    assert result.text == "a b\nc d\n\nnew\n\nend\n"
    assert (result.lines, result.paragraphs, result.paragraph_characters) == (0, 1, 7)


def test_a_text_without_repeats_is_the_same_object():
    text = "\r\n one\n\n\ttwo \n"
    assert remove_repeats(text, ALL).text is text


def test_code_documents_and_answers_are_left_alone():
    text = ("    return self.something_long_enough(value)\n" * 3 + "\n") * 3
    for kind in ("code", "docs", "chat"):
        assert remove_repeats(text, REPEATS[kind]).text is text
    assert remove_repeats(text, REPEATS["web"]).text.count("return") == 1


def test_a_length_below_one_is_refused():
    with pytest.raises(ConfigError, match="min_line_characters must be at least 1, got 0"):
        RepeatsConfig(min_line_characters=0)
