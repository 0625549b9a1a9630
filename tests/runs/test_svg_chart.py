import math
import re

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.runs.svg_chart import (
    Chart,
    Mark,
    Scale,
    apart,
    band_path,
    horizontal_scale,
    line_path,
    log_scale,
    render_chart,
    vertical_scale,
)

values = st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=30)


def chart_of(mean, **changes):
    positions = list(range(1, len(mean) + 1))
    x, (y, _) = horizontal_scale(positions, unit="count"), vertical_scale(mean, mean, from_zero=False)
    curves = {"low": mean, "mean": mean, "high": mean, "smooth": mean}
    return Chart(name="c", title="T", description="D", positions=positions, **{"x": x, "y": y, **curves, **changes})


@given(mean=values)
def test_every_coordinate_lies_inside_the_plot(mean):
    drawing = render_chart(chart_of(mean))
    coordinates = [
        float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", " ".join(re.findall(r'd="([^"]*)"', drawing)))
    ]
    assert coordinates and all(0 <= value <= 1000 for value in coordinates)
    assert all(0 <= float(text) <= 100 for text in re.findall(r'"(-?[\d.]+)%"', drawing))


def test_higher_is_further_up_and_later_further_right():
    (x0, y0), (x1, y1) = re.findall(r"([\d.]+) ([\d.]+)", line_path(chart_of([1.0, 2.0]), [1.0, 2.0]))
    assert float(x0) < float(x1) == 1000
    assert float(y0) > float(y1)


def test_a_gap_in_the_values_is_a_gap_in_the_curve_and_in_the_band():
    chart = chart_of([1.0, 2.0, None, 2.0, 1.0])
    assert line_path(chart, chart.mean).count("M") == 2
    assert band_path(chart).count("Z") == 2


def test_a_lone_value_is_seen():
    assert re.fullmatch(r"M[\d.]+ [\d.]+l1 0M[\d.]+ [\d.]+", line_path(chart_of([5.0]), [5.0]))


def test_one_far_outlier_does_not_flatten_the_curve_and_is_named():
    usual = [1.0 + i / 100 for i in range(100)]
    scale, outside = vertical_scale([*usual, 1.0], [*usual, 500.0], from_zero=True)
    assert outside == 500.0 and scale.high < 4
    assert vertical_scale(usual, usual, from_zero=True)[1] is None


def test_an_axis_from_zero_begins_there():
    assert vertical_scale([3.0], [4.0], from_zero=True)[0].low == 0
    assert 2 < vertical_scale([3.0], [4.0], from_zero=False)[0].low < 3
    assert vertical_scale([-1.0], [4.0], from_zero=True)[0].low < -1


def test_a_logarithmic_axis_needs_positive_values():
    linear, _ = vertical_scale([0.5, 1.0], [1.0, 8.0], from_zero=False)
    scale = log_scale(linear, [0.5, 1.0])
    assert scale.is_log and math.isclose(scale.share(math.sqrt(scale.low * scale.high)), 0.5)
    assert log_scale(linear, [0.0, 1.0]) is None


def test_equal_ends_are_moved_apart():
    assert apart(5.0, 5.0) == (4.5, 5.5) and apart(0.0, 0.0) == (-1.0, 1.0) and apart(0.0, 9.0) == (0.0, 9.0)


def test_what_happened_and_what_was_measured_now_and_then_is_drawn_with_its_text():
    mark = Mark(position=1, kind="spike", text="a <spike>")
    scale = Scale(low=0, high=2, ticks=[(1, "one")])
    drawing = render_chart(chart_of([1.0, 2.0], marks=[mark], points=[(2, 1.5)], y=scale, right=[(1, "50%")]))
    assert '<line class="mark spike" x1="50%" x2="50%" y2="100%"><title>a &lt;spike&gt;</title>' in drawing
    assert '<circle cx="100%" cy="25%"' in drawing
    assert ">one</text>" in drawing and ">50%</text>" in drawing
