"""Several curves in one SVG that stands alone, readable on a light and on a dark page. From the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mamba_slm.runs.svg import Unit, linear_ticks
from mamba_slm.runs.svg_chart import Scale, apart
from mamba_slm.runs.svg_figure import COLOURS, Panel, axes, curve, figure, legend

WIDTH, HEIGHT = 640, 340
LEFT, TOP, RIGHT, BOTTOM = 64, 60, 20, 90
MOST_DOTS = 100
"""Points of a curve that are still shown one by one."""

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Name -> (x, y), x growing."""


def picture(curves: Curves, *, title: str, x_label: str, y_label: str, y_unit: Unit = "plain", from_zero: bool) -> str:
    """The `<svg>` element with axes, curves and a legend.

    Args:
        from_zero: whether the vertical axis begins at 0.
    """
    places = [point for points in curves.values() for point in points]
    x_low, x_high = apart(min(x for x, _ in places), max(x for x, _ in places))
    y_low, y_high = apart(min(y for _, y in places), max(y for _, y in places))
    y_low = min(0.0, y_low) if from_zero else y_low
    panel = Panel(
        left=LEFT, top=TOP, width=WIDTH - LEFT - RIGHT, height=HEIGHT - TOP - BOTTOM,
        x=Scale(low=x_low, high=x_high, ticks=linear_ticks(x_low, x_high, count=5, unit="count")),
        y=Scale(low=y_low, high=y_high, ticks=linear_ticks(y_low, y_high, count=5, unit=y_unit)),
    )  # fmt: skip
    colours = {name: number % len(COLOURS) for number, name in enumerate(curves)}
    parts = axes(panel, title=title, across=x_label, down=y_label)
    for name, points in curves.items():
        parts += curve(panel, points, colour=colours[name], dots=len(points) <= MOST_DOTS)
    parts += legend(colours, left=LEFT, top=HEIGHT - 40, width=WIDTH - LEFT - RIGHT)
    said = "; ".join(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in curves.items())
    return figure(
        parts, title=title, description=f"{y_label} against {x_label}: {said}", width=WIDTH, height=HEIGHT
    )  # fmt: skip
