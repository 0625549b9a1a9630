"""Promises of messages of several lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.conversation.lines import FENCE, messages

LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])).filter(
    lambda line: not line.endswith("\\") and line.strip() != FENCE
)


@given(st.lists(LINE))
def test_ordinary_lines_are_messages(lines):
    assert list(messages(lines)) == lines


@given(st.lists(LINE, min_size=1))
def test_both_ways_to_write_several_lines_give_the_same_message(lines):
    assert list(messages([FENCE, *lines, FENCE])) == ["\n".join(lines)]
    assert list(messages([*(line + "\\" for line in lines[:-1]), lines[-1]])) == ["\n".join(lines)]


def test_the_end_inside_a_message_is_an_error_and_after_a_backslash_the_end_of_it():
    with pytest.raises(ConfigError, match="ends inside a message"):
        list(messages([FENCE, "a"]))
    assert list(messages(["a\\"])) == ["a"]
