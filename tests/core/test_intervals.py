"""Promises of intervals of shares."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.intervals import Z_95, Share


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_its_ends_are_where_the_score_test_just_rejects(case):
    share = Share(*case)
    low, high = share.interval
    assert 0 <= low <= share.value <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            score = (share.value - end) / math.sqrt(end * (1 - end) / share.count)
            assert abs(score) == pytest.approx(Z_95, rel=1e-6)


def test_published_values_of_wilson_are_met():  # Newcombe 1998, table I, without continuity correction
    for hits, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert Share(hits, count).interval == pytest.approx((low, high), abs=5e-5)
    assert Share(1, 29).interval == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_the_interval_covers_the_truth_about_95_times_in_100():
    n, truth = 40, 0.3
    mass = sum(
        math.comb(n, hits) * truth**hits * (1 - truth) ** (n - hits)
        for hits in range(n + 1)
        if not Share(hits, n).excludes(truth)
    )
    assert mass == pytest.approx(0.95, abs=0.02)


def test_no_case_says_nothing():
    assert Share(0, 0).interval == (0.0, 1.0)
    assert Share(0, 0).value is None
    assert str(Share(0, 0)) == "–, n=0"
    assert Share(0, 0).as_json()["share"] is None


def test_more_hits_than_cases_are_refused():
    with pytest.raises(ValueError, match="3 of 2"):
        Share(3, 2)
