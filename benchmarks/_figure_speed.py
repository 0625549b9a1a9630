"""Speed of the hybrid and of attention alone against length, and how far the rounds of a measurement lie apart."""

from __future__ import annotations

from statistics import median
from typing import Any

from mamba_slm.evaluation.bench.crossover import WHAT, points
from mamba_slm.runs.svg import element, linear_ticks
from mamba_slm.runs.svg_chart import Scale
from mamba_slm.runs.svg_figure import Panel, axes, curve, dot, figure, legend, text

WIDTH = 760


def speed_figure(results: dict[str, Any]) -> str:
    """Tokens per second of both, a panel per task."""
    parts = legend({"hybrid": 0, "attention in every layer": 1}, left=52, top=12, width=WIDTH)
    for number, (task, what) in enumerate(WHAT.items()):
        found = points(results, task)
        highest = max(row["tokens_per_second"] for point in found for row in (point.hybrid, point.attention))
        lengths = [point.tokens for point in found]
        panel = Panel(
            left=52 + number * 246, top=84, width=188, height=190,
            x=Scale(low=lengths[0], high=lengths[-1], is_log=True,
                    ticks=[(each, f"{each // 1024}k" if each >= 1024 else str(each)) for each in lengths]),
            y=Scale(low=0, high=1.05 * highest, ticks=linear_ticks(0, 1.05 * highest, count=4)),
        )  # fmt: skip
        parts += axes(panel, title=what.capitalize(), across="tokens", down="tokens/s")
        for colour, name in ((1, "attention"), (0, "hybrid")):
            line = [(point.tokens, getattr(point, name)["tokens_per_second"]) for point in found]
            parts += curve(panel, line, colour=colour)
    return figure(
        parts, title=f"Speed against length, {results['model']}",
        description="Three panels: training, prefill and decoding, from 512 to 16,384 tokens. The two are equally fast "
        "at 512 tokens; the hybrid is ahead at 8,192 and more so at 16,384 in all three.",
        width=WIDTH, height=330,
    )  # fmt: skip


def rounds_figure(results: dict[str, dict[str, Any]]) -> str:
    """Every round of every cell, over the median of its cell."""
    rows = [
        (f"{row['contender']}, {WHAT.get(cell['task'], cell['task'])}, {cell['tokens']:,}", row["seconds_by_round"])
        for file in results.values()
        for cell in file["cells"]
        for row in cell["rows"]
        if row["contender"] in ("ours", "attention") and len(row["seconds_by_round"]) > 1
    ]
    left, top, step = 200, 70, 17
    share = Scale(
        low=0.4, high=1.6, ticks=[(0.5, "−50%"), (0.75, "−25%"), (1.0, "median"), (1.25, "+25%"), (1.5, "+50%")]
    )
    panel = Panel(
        left=left, top=top, width=WIDTH - left - 40, height=len(rows) * step, x=share, y=Scale(low=0, high=1, ticks=())
    )
    parts = [text(left, 24, "time of each round, beside the median of its rounds", bold=True)]
    parts.append(text(left, 44, "one line per measured cell of the crossover page", kind="faint"))
    for value, _ in share.ticks:
        x = panel.across(value)
        parts.append(element("line", {"x1": x, "x2": x, "y1": top, "y2": top + panel.height, "class": "grid"}))
    parts += axes(panel)
    for number, (name, seconds) in enumerate(rows):
        y = top + (number + 0.5) * step
        parts.append(text(left - 10, y + 4, name, anchor="end"))
        parts += [dot(panel.across(each / median(seconds)), y, colour=0, hollow=True) for each in seconds]
    return figure(
        parts, title="How far repeated measurements lie apart",
        description=f"{len(rows)} cells, each measured several times: " + spread(rows), width=WIDTH,
        height=top + panel.height + 34,
    )  # fmt: skip


def spread(rows: list[tuple[str, list[float]]]) -> str:
    """In words, for those who do not see the picture.

    >>> spread([("a", [1.0, 2.0, 3.0])])
    'the widest is from 50% to 150% of its median, and in the median cell the rounds lie 100% apart.'
    """
    shares = [(min(seconds) / median(seconds), max(seconds) / median(seconds)) for _, seconds in rows]
    low, high = max(shares, key=lambda pair: pair[1] - pair[0])
    usual = median(high - low for low, high in shares)
    return (
        f"the widest is from {low:.0%} to {high:.0%} of its median, and in the median cell the rounds lie {usual:.0%} "
        "apart."
    )
