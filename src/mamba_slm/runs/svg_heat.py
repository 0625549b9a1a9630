"""A picture of cells as SVG, whose strength is an opacity; as wide as the page, like the charts."""

from __future__ import annotations

from typing import Any

from mamba_slm.runs.report_layers import Heat
from mamba_slm.runs.svg import element, escaped, percent

SIDE = 1000
FAINTEST = 0.02


def render_heat(heat: Heat) -> str:
    """The `<svg>` element."""
    name = f"heat-{heat.key.replace('_', '-')}"
    title = element("title", {"id": f"{name}-title"}, escaped(f"{heat.title} over the steps of the run"))
    description = element("desc", {"id": f"{name}-desc"}, escaped(heat.description))
    attributes = {"class": "chart heat", "role": "img", "aria-labelledby": f"{name}-title {name}-desc", "tabindex": 0}
    return element("svg", attributes, title, description, axes(heat), cells(heat))


def axes(heat: Heat) -> str:
    """Labels at the left, and the first and the last step below."""
    left = [
        element("text", {"x": -8, "y": percent(1 - place), "dy": "0.32em", "class": "left"}, escaped(label))
        for place, label in heat.labels
    ]
    ends = {0.0: heat.steps[0], 1.0: heat.steps[-1]} if len(heat.steps) > 1 else {0.5: heat.steps[0]}
    below = [
        element("text", {"x": percent(place), "y": "100%", "dy": 18}, escaped(f"{step:,.0f}"))
        for place, step in ends.items()
    ]
    return element("g", {"class": "y", "aria-hidden": "true"}, *left) + element(
        "g", {"class": "x", "aria-hidden": "true"}, *below
    )


def cells(heat: Heat) -> str:
    """One rectangle per cell that can be seen."""
    box: dict[str, Any] = {"class": "plot", "viewBox": f"0 0 {SIDE} {SIDE}", "preserveAspectRatio": "none"}
    width = SIDE / len(heat.columns)
    drawn = []
    for i, column in enumerate(heat.columns):
        height = SIDE / len(column)
        for j, strength in enumerate(column):
            if strength >= FAINTEST:
                place = {"x": i * width, "y": SIDE - (j + 1) * height, "width": width, "height": height}
                drawn.append(element("rect", {**place, "fill-opacity": float(strength)}))
    return element("svg", {**box, "width": "100%", "height": "100%"}, *drawn)
