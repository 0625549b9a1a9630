import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.runs.markdown import cell, fenced, inline_code, markdown_table, printable


@given(text=st.text())
def test_no_text_closes_its_own_fence(text):
    lines = fenced(text).split("\n")
    fence = lines[0].removesuffix("text")
    assert set(fence) == {"`"}
    assert lines[-1] == fence
    assert not any(fence in line for line in lines[1:-1])


@given(text=st.text())
def test_no_text_breaks_a_table(text):
    table = markdown_table(["a", "b"], [[text, "x"]], right=["b"])
    assert len(table.split("\n")) == 3
    assert len(re.findall(r"(?<!\\)\|", table.split("\n")[2])) == 3


@given(text=st.text(min_size=1))
def test_no_text_closes_its_own_code_span(text):
    code = inline_code(text)
    marks = re.match(r"`+", code)[0]
    assert code.endswith(marks)
    assert marks not in [run for run in re.findall(r"`+", code[len(marks) : -len(marks)])]
    assert "\n" not in code


def test_empty_code_is_still_visible():
    assert inline_code("") == '`""`'


@given(text=st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    assert all(character in "\n\t" or character.isprintable() for character in printable(text))


@pytest.mark.parametrize(
    "text, shown", [("a\x1b[2J", "a\\x1b[2J"), ("a\u2028b", "a b"), ("ü→", "ü→"), ("a\tb\n", "a\tb\n")]
)
def test_control_characters_are_shown_not_sent(text, shown):
    assert printable(text) == shown


def test_a_backslash_before_a_bar_does_not_undo_its_escape():
    assert cell("a\\|b") == "a\\\\\\|b"
