import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.runs.curve import BLOCKS, bucket_means, sparkline

VALUES = st.lists(st.floats(-1e6, 1e6), max_size=80)


@given(values=VALUES)
def test_a_sparkline_has_one_block_per_value_and_touches_both_ends(values):
    line = sparkline(values)
    assert len(line) == len(values)
    assert set(line) <= set(BLOCKS)
    if values and max(values) > min(values):
        assert line[values.index(min(values))] == BLOCKS[0]
        assert line[values.index(max(values))] == BLOCKS[-1]


@pytest.mark.parametrize("value", [2.0, -1e308, 0.0])
def test_a_flat_curve_is_drawn_at_the_bottom(value):
    assert sparkline([value, value]) == "▁▁"


def test_the_smallest_and_the_largest_differences_are_no_error():
    assert sparkline([0.0, 5e-324]) == "▁█"
    assert sparkline([-1.7e308, 1.7e308]) == "▁▁"


@given(values=VALUES, buckets=st.integers(1, 40))
def test_bucket_means_weigh_every_value_once(values, buckets):
    means = bucket_means(values, buckets)
    assert len(means) == min(buckets, len(values))
    if values and len(values) % len(means) == 0:
        assert sum(means) / len(means) == pytest.approx(sum(values) / len(values), abs=1.0)
