"""Long texts are cut where it hurts least, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.signals.lengths import cut_long


@given(st.text("ab \n", max_size=300), st.integers(1, 50))
def test_parts_are_the_text_and_none_is_too_long(text, max_characters):
    parts = cut_long(text, max_characters=max_characters)
    assert "".join(parts) == text
    assert all(len(part) <= max_characters for part in parts)
    assert all(2 * len(part) >= max_characters for part in parts[:-1])


def test_a_cut_prefers_paragraphs_then_lines_then_words():
    assert cut_long("aaaa\n\nb c\nd e", max_characters=11) == ["aaaa\n\n", "b c\nd e"]
    assert cut_long("aaaa b\nc d e", max_characters=11) == ["aaaa b\n", "c d e"]
    assert cut_long("aaaa b c d e", max_characters=9) == ["aaaa b c ", "d e"]
    assert cut_long("abcdefg", max_characters=3) == ["abc", "def", "g"]


def test_a_short_text_is_one_part():
    assert cut_long("", max_characters=1) == [""]
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        cut_long("a", max_characters=0)
