"""Measured errors of every path against the definition: from the table of docs/reference/conformance.md alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mamba_slm.runs.svg import element
from mamba_slm.runs.svg_chart import Scale
from mamba_slm.runs.svg_figure import Panel, axes, dot, figure, legend, text

LEFT, TOP, ROW, WIDTH = 260, 72, 19, 760
SECTIONS = ("", "Quantized weights")
"""The first table of the page, before any heading, and the one below this heading."""

SHOWN = ("int8", "int8, compiled step", "int8, GGUF", "int8, ONNX as it runs", "int4", "int4, compiled step",
         "int4, ONNX as it runs", "nf4", "mixed")  # fmt: skip
"""Of the second table, whose rows repeat each other."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table."""

    path: str
    outputs: float
    gradients: float | None
    tolerance: float


def rows_of(page: str) -> Iterator[Measured]:
    """The rows that are drawn, in the page's order."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    sections = {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
    for section in SECTIONS:
        for line in sections[section].splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) != 7 or not re.match(r"\d", cells[3]) or (section and cells[0] not in SHOWN):
                continue
            gradients = re.match(r"[\d.e+-]+", cells[4])
            yield Measured(
                path=cells[0], outputs=float(cells[3]), gradients=float(gradients[0]) if gradients else None,
                tolerance=float(cells[5]),
            )  # fmt: skip


def precision_figure(page: str) -> str:
    """One line per path with the errors of outputs and gradients on a logarithmic axis."""
    rows = list(rows_of(page))
    ticks = [(10.0**power, f"1e{power:03d}") for power in range(-7, 0)]
    panel = Panel(
        left=LEFT, top=TOP, width=WIDTH - LEFT - 30, height=len(rows) * ROW,
        x=Scale(low=1e-7, high=0.2, ticks=ticks, is_log=True), y=Scale(low=0, high=1, ticks=()),
    )  # fmt: skip
    parts = legend({"outputs": 0, "gradients": 1}, left=LEFT, top=12, width=WIDTH)
    parts.append(text(LEFT, 52, "relative error; short lines: what a test allows for outputs", kind="faint"))
    for value, _ in ticks:
        x = panel.across(value)
        parts.append(element("line", {"x1": x, "x2": x, "y1": TOP, "y2": TOP + panel.height, "class": "grid"}))
    parts += axes(panel)
    for number, row in enumerate(rows):
        y = TOP + (number + 0.5) * ROW
        parts.append(text(LEFT - 10, y + 4, row.path, anchor="end"))
        x = panel.across(row.tolerance)
        parts.append(element("line", {"x1": x, "x2": x, "y1": y - 6, "y2": y + 6, "class": "edge"}))
        if row.gradients is not None:
            parts.append(dot(panel.across(row.gradients), y, colour=1, hollow=True))
        parts.append(dot(panel.across(row.outputs), y, colour=0))
    return figure(
        parts, title="How far each path is from the definition",
        description="One line per path of computation. Paths in float32, and all that computes with stored 8 and 4 bit "
        "numbers, lie between 5e-07 and 1e-06 in their outputs; gradients between 1e-06 and 5e-05. Everything in "
        "bfloat16 lies near 1e-02, and ONNX Runtime with inputs rounded to 8 bits near 2e-02.",
        width=WIDTH, height=TOP + panel.height + 34,
    )  # fmt: skip
