from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.interleave import LONGEST_PERIOD, Interleave, whole_units

UNITS = st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any)
PUBLISHED = (0.3, 0.25, 0.15, 0.1, 0.05, 0.05, 0.05, 0.05)


@given(units=UNITS)
@settings(max_examples=150)
def test_after_any_number_of_samples_every_source_is_within_one_of_its_share(units):
    order = Interleave(tuple(units))
    counts = [0] * len(units)
    for sample in range(2 * order.period + 3):
        source, before = order[sample]
        assert before == counts[source]
        counts[source] += 1
        assert order.counts(sample + 1) == tuple(counts)
        for count, unit in zip(counts, units, strict=True):
            assert abs(count * order.period - unit * (sample + 1)) < order.period


@given(units=UNITS, periods=st.integers(0, 10**12), place=st.integers(0, 500))
def test_a_sample_far_away_is_known_at_once_and_goes_on_from_the_ones_before(units, periods, place):
    order = Interleave(tuple(units))
    sample = periods * order.period + place
    source, before = order[sample]
    assert order.counts(sample)[source] == before
    assert order.counts(sample + 1)[source] == before + 1
    assert sum(order.counts(sample)) == sample


def test_the_published_mixture_is_exact_in_every_period_of_twenty():
    units = whole_units(PUBLISHED)
    assert units == (6, 5, 3, 2, 1, 1, 1, 1)
    assert Interleave(units).counts(10**12) == tuple(int(10**12 * share) for share in PUBLISHED)


def test_a_long_period_keeps_its_bound():
    units = (28571, 28133, 23577, 18267, 940, 469, 47)
    order = Interleave(units)
    counts = [0] * len(units)
    for sample in range(order.period):
        counts[order[sample][0]] += 1
        assert all(abs(n * order.period - u * (sample + 1)) < order.period for n, u in zip(counts, units, strict=True))
    assert counts == list(units)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8).filter(any))
def test_units_are_in_proportion_to_the_weights(weights):
    units = whole_units(weights)
    assert sum(units) <= LONGEST_PERIOD
    total = sum(map(Fraction, weights))
    for weight, unit in zip(weights, units, strict=True):
        share = Fraction(weight) / total
        assert (unit > 0) == (weight > 0)
        assert abs(Fraction(unit, sum(units)) - share) <= Fraction(len(weights), LONGEST_PERIOD)


def test_weights_are_taken_as_they_are_written():
    assert whole_units([0.1, 0.2]) == (1, 2)
    assert whole_units([1e9, 3]) == (262143, 1)
    assert whole_units([700, 300]) == (7, 3)


def test_rounding_of_floats_does_not_make_a_period_long():
    total = sum(PUBLISHED) + 0.2
    assert whole_units([weight / total for weight in (*PUBLISHED, 0.2)]) == (6, 5, 3, 2, 1, 1, 1, 1, 4)
    assert whole_units([1 / 3, 1 / 7, 11 / 21]) == (7, 3, 11)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, 2.0], [float("nan")], [float("inf"), 1.0]])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(ConfigError, match="weight"):
        whole_units(weights)


def test_more_sources_than_a_period_has_room_for_are_refused():
    with pytest.raises(ConfigError, match="at most 65,536 sources"):
        whole_units([1] * 70_000)
