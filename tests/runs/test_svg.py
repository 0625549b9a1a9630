import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.runs.svg import element, escaped, linear_ticks, log_ticks, percent, seconds_label, written

UNITS = ["plain", "count", "bytes", "seconds", "share"]
numbers = st.floats(1e-6, 1e15)


def test_attributes_and_text_are_escaped():
    assert element("a", {"b": '"<'}, escaped("<i>\x1b")) == '<a b="&quot;&lt;">&lt;i&gt;\\x1b</a>'
    assert written(2.0) == "2" and written(7) == "7" and percent(2.0) == "100%" and percent(-1) == "0%"


@pytest.mark.parametrize("unit", UNITS)
@given(low=numbers, span=st.floats(0.01, 100))
def test_ticks_lie_inside_and_are_few_and_evenly_spread(unit, low, span):
    high = low + span * low
    ticks = linear_ticks(low, high, count=5, unit=unit)
    values = [value for value, _ in ticks]
    assert len(ticks) <= 8 or unit == "seconds"
    assert all(low - 1e-6 * high <= value <= high * (1 + 1e-6) for value in values)
    gaps = [b - a for a, b in itertools.pairwise(values)]
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-6) for gap in gaps)


@given(low=st.floats(1e-9, 1e9), span=st.floats(1.2, 1e12))
def test_logarithmic_ticks_lie_inside_and_are_few(low, span):
    ticks = log_ticks(low, low * span)
    assert len(ticks) <= 6
    assert all(low <= value <= low * span for value, _ in ticks)
    assert all(math.isclose(float(label), value, rel_tol=1e-5) for value, label in ticks)


def test_times_are_written_as_one_says_them():
    assert [label for _, label in linear_ticks(0, 7200, count=4, unit="seconds")] == [
        "0",
        "30 min",
        "1 h",
        "1 h 30",
        "2 h",
    ]
    assert seconds_label(5, 5) == "5 s" and seconds_label(172_800, 86_400) == "2 d"
    assert [label for _, label in linear_ticks(0, 30 * 86_400, count=3, unit="seconds")] == [
        "0",
        "10 d",
        "20 d",
        "30 d",
    ]


def test_sizes_are_written_in_one_unit():
    assert [label for _, label in linear_ticks(0, 2**30, count=2, unit="bytes")] == ["0", "0.5 GiB", "1 GiB"]
    assert [label for _, label in linear_ticks(0, 0.4, count=2, unit="share")] == ["0", "20%", "40%"]
