"""Estimated memory by part, and estimates beside what was measured: from the estimator and from a table of the log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mamba_slm.core.units import format_bytes
from mamba_slm.model.presets import preset
from mamba_slm.runs.svg import element
from mamba_slm.runs.svg_chart import Scale
from mamba_slm.runs.svg_figure import Panel, axes, cell, dot, figure, legend, text
from mamba_slm.training.memory_estimate import MemoryEstimate, estimate_memory

ENTRY = "what a run held above its estimate was what reading its text had freed"
MIB, GIB = 2**20, 2**30
LEFT, WIDTH = 214, 760
PARTS = {"process": 5, "weights": 0, "gradients": 1, "optimizer": 2, "activations": 3, "allocator": 4, "the rest": 6}
"""Of a memory estimate; the rest is the largest sublayer going back, logits, and weights collected from others."""

CASES: tuple[tuple[str, int, int, bool, bool], ...] = (
    ("tiny", 512, 2, False, False),
    ("60M", 1024, 1, False, False),
    ("125M", 2048, 4, False, True),
    ("350M", 2048, 4, False, True),
    ("350M", 2048, 4, True, True),
    ("1.3B", 2048, 4, False, True),
    ("1.3B", 2048, 4, True, True),
)
"""Preset, tokens in a row, rows at once, gradient checkpointing, on a GPU."""


def memory_figure() -> str:
    """Bars of shares, so that small and large sizes can be read side by side; the sum stands at the end."""
    parts = legend(PARTS, left=LEFT, top=12, width=WIDTH - LEFT)
    bar, top, row = WIDTH - LEFT - 90, 64, 42
    for number, (name, tokens, rows, recompute, on_gpu) in enumerate(CASES):
        memory = estimate_memory(
            preset(name), context_tokens=tokens, rows_at_once=rows, precision="bf16", gradient_checkpointing=recompute,
            on_gpu=on_gpu,
        )  # fmt: skip
        y, x = top + number * row, float(LEFT)
        parts.append(text(LEFT - 10, y + 11, f"{name}, {'GPU' if on_gpu else 'CPU'}", anchor="end"))
        how = f"{rows} × {tokens:,} tokens{', recomputed' if recompute else ''}"
        parts.append(text(LEFT - 10, y + 25, how, anchor="end", kind="faint"))
        for part, size in by_part(memory).items():
            width = bar * size / memory.total
            parts.append(cell(x, y, width, 24, colour=PARTS[part], words=f"{part}: {format_bytes(size)}"))
            x += width
        parts.append(text(x + 8, y + 16, format_bytes(memory.total)))
    return figure(
        parts, title="Estimated memory of one training step, by part",
        description="One bar per setting, each as wide as the others, with the sum at its end. On a CPU a small "
        "model's memory is mostly the process itself. On a GPU activations dominate until gradient checkpointing, "
        "which computes them again, takes most of them away; then weights, gradients and moments do.",
        width=WIDTH, height=top + len(CASES) * row + 8,
    )  # fmt: skip


def by_part(memory: MemoryEstimate) -> dict[str, float]:
    """The parts that are drawn; small ones together."""
    known = {name: value for name, value in asdict(memory).items() if name in PARTS}
    return {name: known[name] for name in PARTS if name in known} | {"the rest": memory.total - sum(known.values())}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A size and a precision: bytes and seconds per step, planned and real."""

    name: str
    estimated_bytes: float
    two_steps_bytes: float
    real_bytes: float
    planned_seconds: tuple[float, ...]
    real_seconds: tuple[float, ...]


def compared_rows(log: str) -> Iterator[Compared]:
    """The table of the entry of the log, one row per size and precision."""
    entry = log.partition(ENTRY)[2].partition("\n## ")[0]
    for line in entry.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 7 or cells[1] not in ("fp32", "bf16"):
            continue
        yield Compared(
            name=f"{cells[0]} {cells[1]}", estimated_bytes=bytes_in(cells[2]), two_steps_bytes=bytes_in(cells[3]),
            real_bytes=bytes_in(cells[4]), planned_seconds=seconds_in(cells[5]), real_seconds=seconds_in(cells[6]),
        )  # fmt: skip


def bytes_in(words: str) -> float:
    """The first size in a cell: "1,035 MiB (−6%)"."""
    found = re.match(r"([\d.,]+) (MiB|GiB)", words)
    assert found, words
    return float(found[1].replace(",", "")) * {"MiB": MIB, "GiB": GIB}[found[2]]


def seconds_in(words: str) -> tuple[float, ...]:
    """All times in a cell: "1.6 s (+41%); 1.1 s (−11%)"."""
    return tuple(float(found) for found in re.findall(r"([\d.]+) s\b", words))


def compared_figure(log: str) -> str:
    """Memory and time, planned over real: a circle on the line is right."""
    rows = list(compared_rows(log))
    height = 34.0 * len(rows)
    parts = legend({"from sizes alone": 0, "from two steps taken here": 1}, left=LEFT - 80, top=12, width=WIDTH)
    share = Scale(low=0.7, high=1.5, ticks=[(0.75, "−25%"), (1.0, "right"), (1.25, "+25%"), (1.5, "+50%")])
    panels = [
        Panel(left=left, top=84, width=270, height=height, x=share, y=Scale(low=0, high=1, ticks=()))
        for left in (LEFT - 80, LEFT + 240)
    ]
    for panel, title in zip(panels, ("memory", "time of a step"), strict=True):
        parts.append(
            cell(
                panel.across(0.85), panel.top, panel.across(1.15) - panel.across(0.85), height, colour=5, opacity=0.14,
                words="within 15%",
            )
        )  # fmt: skip
        parts += axes(panel, title=title, across="planned, beside the real run")
        x = panel.across(1.0)
        parts.append(element("line", {"x1": x, "x2": x, "y1": panel.top, "y2": panel.top + height, "class": "edge"}))
    for number, row in enumerate(rows):
        y = 84 + (number + 0.5) * 34
        parts.append(text(LEFT - 92, y + 4, row.name, anchor="end"))
        memory, time = panels
        parts.append(dot(memory.across(row.estimated_bytes / row.real_bytes), y - 5, colour=0))
        parts.append(dot(memory.across(row.two_steps_bytes / row.real_bytes), y + 5, colour=1, hollow=True))
        for planned, real in zip(row.planned_seconds, row.real_seconds, strict=True):
            parts.append(dot(time.across(planned / real), y, colour=1, hollow=True))
    return figure(
        parts, title="Estimates beside real runs",
        description="Six runs: nano, tiny and 60M in fp32 and bf16. Memory from sizes alone and from two steps lies "
        "within 8% of that of a whole run. The time of a step from two steps lies within 15%, but for one of two "
        "readings of nano in fp32, which was 41% too long.",
        width=WIDTH, height=84 + height + 48,
    )  # fmt: skip
