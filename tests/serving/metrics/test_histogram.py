"""Promises of counts by size."""

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.serving.metrics import buckets
from mamba_slm.serving.metrics.histogram import Histogram

VALUES = st.lists(st.floats(0, 10_000, allow_nan=False) | st.sampled_from(buckets.FIRST_TOKEN_SECONDS))


@given(VALUES, VALUES)
def test_a_bucket_counts_what_is_at_most_its_bound(one_by_one, together):
    histogram = Histogram(buckets.FIRST_TOKEN_SECONDS)
    for value in one_by_one:
        histogram.observe(value)
    histogram.observe_all(together)
    values = [*one_by_one, *together]
    expected = [sum(value <= bound for value in values) for bound in histogram.bounds]
    assert histogram.cumulative() == [*expected, len(values)]
    assert abs(histogram.total - sum(values)) <= 1e-9 * max(1, sum(values))


def test_bounds_rise_and_hold_all_of_vllms():
    """Its `v1/metrics/buckets.py` of 0.33: a target that a dashboard offers must be a bound."""
    theirs = {
        buckets.REQUEST_SECONDS: (
            *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
            *(120, 240, 480, 960, 1920, 7680),
        ),
        buckets.FIRST_TOKEN_SECONDS: (
            *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
            *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
        ),
        buckets.TOKEN_SECONDS: (
            *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
            *(1, 2.5, 5, 7.5, 10, 20, 40, 80),
        ),
    }
    for ours, wanted in theirs.items():
        assert set(wanted) <= set(ours)
    for bounds in (*theirs, buckets.STEP_SECONDS, buckets.STEP_TOKENS, buckets.HTTP_FINE_SECONDS):
        assert list(bounds) == sorted(set(bounds))
    assert buckets.lengths(2048)[-1] == 2000 and buckets.lengths(1) == (1.0,)
