import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.data.sources.published_mixture import published_mixture
from mamba_slm.data.sources.source import load_sources

SOURCES = load_sources()
PUBLISHED = [name for name, source in SOURCES.items() if source.mixture_percent]


def test_the_share_of_books3_goes_to_public_domain_books_and_this_is_said():
    mixture = published_mixture(SOURCES)
    assert mixture.weights["gutenberg"] == pytest.approx(0.10) and "books3" not in mixture.weights
    assert mixture.weights["c4"] == pytest.approx(0.30)
    assert len(mixture.remarks) == 1 and "books3 is withdrawn: its 10% go to gutenberg" in mixture.remarks[0]


def test_with_an_own_copy_the_mixture_is_the_published_one():
    mixture = published_mixture(SOURCES, have=["books3"])
    assert mixture.remarks == () and list(mixture.weights) == PUBLISHED
    assert list(mixture.weights.values()) == pytest.approx([0.30, 0.25, 0.15, 0.10, 0.05, 0.05, 0.05, 0.05])


def test_without_books_the_share_goes_to_the_others_in_proportion():
    mixture = published_mixture(SOURCES, without=["gutenberg"])
    assert mixture.weights["c4"] == pytest.approx(0.30 / 0.90)
    assert "in proportion" in mixture.remarks[0]


@given(without=st.sets(st.sampled_from(sorted(SOURCES)), max_size=7))
def test_shares_sum_to_one_and_every_change_has_a_remark(without):
    mixture = published_mixture(SOURCES, without=without)
    assert sum(mixture.weights.values()) == pytest.approx(1)
    assert not without & set(mixture.weights)
    assert len(mixture.remarks) == len({"books3"} | (without & set(PUBLISHED)))


def test_nothing_left_and_unknown_names_are_errors():
    with pytest.raises(DataError, match="nothing is left"):
        published_mixture(SOURCES, without=[*PUBLISHED, "gutenberg"])
    with pytest.raises(UnknownNameError, match="did you mean 'pile'"):
        published_mixture(SOURCES, without=["pil"])
