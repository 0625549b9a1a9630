"""A curve as SVG that fits any width without a script: the curve is stretched, the writing is not.

The outer `<svg>` has a padding from the style sheet and places its labels in per cent; inside it, `<svg class="plot">`
has a view box of 1000 × 1000 that is stretched over all of it, with lines whose width is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mamba_slm.runs.svg import Tick, Unit, element, escaped, linear_ticks, log_ticks, percent

SIDE = 1000
HEADROOM = 0.06
OUTLIER = 3.0
"""A curve whose highest value is this many times what 98% of it stays below is cut there, and says so."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One axis: its range, and what is written along it."""

    low: float
    high: float
    ticks: Sequence[Tick]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; what lies outside is moved to the end."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = (math.log10(max(each, 1e-300)) for each in (value, low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at one place of the horizontal axis."""

    position: float
    kind: str
    """Becomes the class: spike, diverged, resumed, …"""

    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What is drawn. All sequences of values have one entry per position; None is a gap."""

    name: str
    """Begins the ids of its elements."""

    title: str
    description: str
    """Said instead of the picture."""

    positions: Sequence[float]
    low: Sequence[float | None]
    mean: Sequence[float | None]
    high: Sequence[float | None]
    smooth: Sequence[float | None]
    x: Scale
    y: Scale
    right: Sequence[Tick] = ()
    """A second labelling of the vertical axis, on the right, at values of the first."""

    points: Sequence[tuple[float, float]] = ()
    """Measured now and then, such as the validation loss."""

    marks: Sequence[Mark] = field(default_factory=tuple)


def vertical_scale(
    low: Sequence[float | None], high: Sequence[float | None], *, unit: Unit = "plain", from_zero: bool
) -> tuple[Scale, float | None]:
    """An axis for these values, and the highest value when it lies outside the picture, else None."""
    lows, highs = [v for v in low if v is not None], sorted(v for v in high if v is not None)
    bottom, top = min(lows), highs[-1]
    usual = highs[round(0.98 * (len(highs) - 1))]
    outside = None
    if usual > 0 and top > OUTLIER * usual:
        outside, top = top, 1.5 * usual
    if from_zero:
        bottom = min(bottom, 0.0)
    bottom, top = apart(bottom, top)
    room = HEADROOM * (top - bottom)
    bottom = bottom if from_zero and bottom == 0 else bottom - room
    return Scale(low=bottom, high=top + room, ticks=linear_ticks(bottom, top + room, count=5, unit=unit)), outside


def log_scale(linear: Scale, low: Sequence[float | None]) -> Scale | None:
    """The logarithmic axis beside a linear one; None when a value is not positive."""
    lows = [v for v in low if v is not None]
    if min(lows) <= 0 or linear.high <= min(lows):
        return None
    bottom, top = min(lows) / 1.05, linear.high
    ticks = log_ticks(bottom, top)
    return Scale(low=bottom, high=top, ticks=ticks, is_log=True) if len(ticks) > 1 else None


def horizontal_scale(positions: Sequence[float], *, unit: Unit) -> Scale:
    """An axis from 0 to the last position."""
    low, high = apart(min(0.0, *positions), max(positions))
    return Scale(low=low, high=high, ticks=linear_ticks(low, high, count=5, unit=unit))


def apart(low: float, high: float) -> tuple[float, float]:
    """The two ends, moved apart when they are too close for an axis."""
    if high - low > 1e-6 * max(abs(low), abs(high)):
        return low, high
    room = 0.1 * abs(high) or 1.0
    return low - room, high + room


def line_path(chart: Chart, values: Sequence[float | None]) -> str:
    """The curve through the values, with a gap where one is None; a lone value is a short stroke."""
    pieces, pen_is_down, started = [], False, ""
    for position, value in zip(chart.positions, values, strict=True):
        if value is None:
            pen_is_down = False
            continue
        place = point(chart, position, value)
        pieces.append(f"{'L' if pen_is_down else 'M'}{place}")
        pen_is_down, started = True, place
    if len(pieces) == 1:
        pieces.append(f"l1 0M{started}")
    return "".join(pieces)


def band_path(chart: Chart) -> str:
    """The area between the lowest and the highest values; one closed piece per stretch without gaps."""
    pieces, there, back = [], [], []
    for position, low, high in [*zip(chart.positions, chart.low, chart.high, strict=True), (0.0, None, None)]:
        if low is not None and high is not None:
            there.append(point(chart, position, high))
            back.append(point(chart, position, low))
        elif there:
            pieces.append("M" + "L".join([*there, *reversed(back)]) + "Z")
            there, back = [], []
    return "".join(pieces)


def point(chart: Chart, position: float, value: float) -> str:
    """Coordinates in the plot, in whole thousandths across and tenths of them down."""
    down = f"{SIDE * (1 - chart.y.share(value)):.1f}".removesuffix(".0")
    return f"{SIDE * chart.x.share(position):.1f}".removesuffix(".0") + " " + down


def render_chart(chart: Chart) -> str:
    """The `<svg>` element."""
    name = chart.name
    title = element("title", {"id": f"{name}-title"}, escaped(chart.title))
    description = element("desc", {"id": f"{name}-desc"}, escaped(chart.description))
    attributes = {"class": "chart", "role": "img", "aria-labelledby": f"{name}-title {name}-desc", "tabindex": 0}
    return element("svg", attributes, title, description, axes(chart), plot(chart), marks(chart), points(chart))


def axes(chart: Chart) -> str:
    """Grid lines and labels."""
    left = [
        element("line", {"x2": "100%", "y1": y, "y2": y})
        + element("text", {"x": -8, "y": y, "dy": "0.32em", "class": "left"}, escaped(label))
        for y, label in ((percent(1 - chart.y.share(value)), label) for value, label in chart.y.ticks)
    ]
    right = [
        element("text", {"x": "100%", "dx": 8, "y": percent(1 - chart.y.share(value)), "dy": "0.32em"}, escaped(label))
        for value, label in chart.right
    ]
    below = [
        element("text", {"x": percent(chart.x.share(value)), "y": "100%", "dy": 18}, escaped(label))
        for value, label in chart.x.ticks
    ]
    return (
        element("g", {"class": "y", "aria-hidden": "true"}, *left)
        + (element("g", {"class": "right", "aria-hidden": "true"}, *right) if right else "")
        + element("g", {"class": "x", "aria-hidden": "true"}, *below)
    )


def plot(chart: Chart) -> str:
    """Band, raw curve and smoothed curve."""
    box = {"class": "plot", "viewBox": f"0 0 {SIDE} {SIDE}", "preserveAspectRatio": "none"}
    paths = [
        ("band", band_path(chart)),
        ("raw", line_path(chart, chart.mean)),
        ("smooth", line_path(chart, chart.smooth)),
    ]
    return element(
        "svg", {**box, "width": "100%", "height": "100%"}, *(element("path", {"class": c, "d": d}) for c, d in paths)
    )


def marks(chart: Chart) -> str:
    """Vertical lines where something happened."""
    lines = []
    for mark in chart.marks:
        x = percent(chart.x.share(mark.position))
        label = element("title", {}, escaped(mark.text))
        lines.append(element("line", {"class": f"mark {mark.kind}", "x1": x, "x2": x, "y2": "100%"}, label))
    return element("g", {"class": "marks"}, *lines) if lines else ""


def points(chart: Chart) -> str:
    """Circles for what was measured now and then."""
    radius = 3.5 if len(chart.points) <= 20 else 2.2
    circles = [
        element("circle", {"cx": percent(chart.x.share(x)), "cy": percent(1 - chart.y.share(y)), "r": radius})
        for x, y in chart.points
    ]
    return element("g", {"class": "points"}, *circles) if circles else ""
