import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.runs.evidence import Evidence
from mamba_slm.runs.report_curves import LARGEST, clamped, measured, read_curves, smoothed, smoothing_width


def evidence_of(run, losses, **values):
    rows = [{"step": i, "tokens": 10 * i, "loss": loss, **values} for i, loss in enumerate(losses, start=1)]
    return Evidence(run=run, train=rows)


@given(losses=st.lists(st.floats(0, 100) | st.none(), min_size=1, max_size=80), stretches=st.integers(1, 20))
def test_no_extreme_is_lost_and_the_mean_lies_between(losses, stretches):
    curves = read_curves(evidence_of(None, losses), stretches=stretches)
    assert curves.length == min(stretches, len(losses))
    assert curves.positions["step"][-1] == len(losses) and "seconds" not in curves.positions
    known = [loss for loss in losses if loss is not None]
    if not known:
        assert "loss" not in curves.mean
        return
    low, mean, high = (
        [value for value in side["loss"] if value is not None] for side in (curves.low, curves.mean, curves.high)
    )
    assert min(low) == min(known) and max(high) == max(known)
    assert all(a - 1e-9 <= b <= c + 1e-9 for a, b, c in zip(low, mean, high, strict=True))


def test_a_run_without_rows_has_no_curves(run):
    curves = read_curves(Evidence(run=run))
    assert curves.length == 0 and not curves.mean


def test_values_beyond_every_chart_are_brought_back():
    assert clamped(1e308) == LARGEST and clamped(-1e308) == -LARGEST and clamped(3) == 3.0
    assert measured([{"a": 1e308}, {"a": None}, {}, {"a": 2}], "a") == [LARGEST, 2]


def test_a_step_has_a_place_on_every_axis(run):
    curves = read_curves(evidence_of(run, [1.0] * 100), stretches=4)
    assert [curves.place(step, "tokens") for step in (0, 25, 50, 60, 100, 999)] == [0, 250, 500, 600, 1000, 1000]


@given(slope=st.floats(-10, 10), start=st.floats(-10, 10), width=st.floats(0.3, 12))
def test_smoothing_leaves_a_straight_line_as_it_is_to_its_very_ends(slope, start, width):
    line = [start + slope * i for i in range(25)]
    assert smoothed(line, width) == pytest.approx(line, abs=1e-6)


def test_smoothing_lowers_a_spike_keeps_gaps_and_can_be_none():
    values = [1.0, 1.0, 1.0, 9.0, 1.0, 1.0, None]
    smooth = smoothed(values, 1.5)
    assert smooth[6] is None and 1 < smooth[3] < 6
    assert smoothed(values, 0) == values
    assert smoothing_width(0, 100) == 0 and math.isclose(smoothing_width(1, 100), 15)
