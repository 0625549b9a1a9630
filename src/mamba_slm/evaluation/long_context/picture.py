"""Several curves in one SVG that stands alone, readable on a light and on a dark page. From the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mamba_slm.runs.svg import Unit, element, escaped, linear_ticks
from mamba_slm.runs.svg_chart import apart

WIDTH, HEIGHT = 640, 340
LEFT, TOP, RIGHT, BOTTOM = 60, 40, 20, 80
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777")
"""Told apart with any kind of sight."""

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

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        element("rect", {"width": WIDTH, "height": HEIGHT, "fill": "#ffffff"}),
        element("text", {"x": WIDTH / 2, "y": 20, "text-anchor": "middle", "font-size": 14}, escaped(title)),
        element("text", {"x": WIDTH / 2, "y": HEIGHT - 44, "text-anchor": "middle"}, escaped(x_label)),
        element("text", {"x": LEFT - 50, "y": TOP - 10}, escaped(y_label)),
    ]
    for value, label in linear_ticks(y_low, y_high, count=5, unit=y_unit):
        y = down(value)
        parts.append(element("line", {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y, "stroke": "#dddddd"}))
        parts.append(element("text", {"x": LEFT - 6, "y": y + 4, "text-anchor": "end"}, escaped(label)))
    for value, label in linear_ticks(x_low, x_high, count=5, unit="count"):
        parts.append(
            element("text", {"x": across(value), "y": HEIGHT - BOTTOM + 16, "text-anchor": "middle"}, escaped(label))
        )
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(element("polyline", {"points": line, "fill": "none", "stroke": colour, "stroke-width": 2}))
        parts += [element("circle", {"cx": across(x), "cy": down(y), "r": 2.5, "fill": colour}) for x, y in points]
        left = LEFT + number % 3 * 190
        below = HEIGHT - 24 + number // 3 * 14
        parts.append(element("rect", {"x": left, "y": below - 8, "width": 12, "height": 4, "fill": colour}))
        parts.append(element("text", {"x": left + 18, "y": below - 2}, escaped(name)))
    box = {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img",
        "font-family": "sans-serif", "font-size": 11, "fill": "#222222",
    }  # fmt: skip
    return element("svg", box, element("title", {}, escaped(title)), *parts) + "\n"
