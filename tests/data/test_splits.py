import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.splits import is_held_out, is_text_held_out


@given(id=st.text(), small=st.floats(0, 1), large=st.floats(0, 1))
def test_a_larger_share_holds_out_what_a_smaller_one_does(id, small, large):
    small, large = sorted((small, large))
    assert is_held_out(id, small) <= is_held_out(id, large)
    assert not is_held_out(id, 0.0)
    assert is_held_out(id, 1.0)


def test_the_share_is_met_and_the_choice_never_changes():
    chosen = [id for id in range(10_000) if is_held_out(f"file-{id}.txt", 0.1)]
    assert abs(len(chosen) - 1000) < 100
    assert chosen[:5] == [5, 12, 21, 30, 39]


def test_another_salt_chooses_independently():
    both = sum(is_held_out(str(id), 0.5) and is_held_out(str(id), 0.5, salt="other") for id in range(4000))
    assert abs(both - 1000) < 120


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(share):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        is_held_out("x", share)


def test_a_text_is_on_the_same_side_everywhere_and_the_share_is_met():
    chosen = [number for number in range(10_000) if is_text_held_out(f"text {number}".encode(), 0.1)]
    assert abs(len(chosen) - 1000) < 100
    assert chosen[:5] == [0, 2, 10, 15, 37]
    assert all(is_text_held_out(f"text {number}".encode(), 0.2) for number in chosen)
    assert is_text_held_out(b"", 1.0) and not is_text_held_out(b"", 0.0)
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        is_text_held_out(b"", 1.1)
