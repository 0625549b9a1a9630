"""What one sequence keeps in memory, by its length: computed from sizes, with what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mamba_slm.evaluation.bench.crossover import points
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import state_bytes
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.model.presets import preset
from mamba_slm.runs.svg_chart import Scale
from mamba_slm.runs.svg_figure import Panel, axes, curve, dot, figure, legend, text

LENGTHS = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
WIDTH, HEIGHT = 760, 400
MIB, KIB = 2**20, 2**10


def state_figure(crossover: dict[str, Any]) -> str:
    """60M with its measured points, and 1.3B."""
    parts = legend(
        {"hybrid": 0, "of which the Mamba layers": 2, "attention in every layer": 1}, left=60, top=12, width=WIDTH
    )
    parts.append(
        text(
            60,
            52,
            "lines: computed; circles: measured (bench --crossover), with room for as many tokens again",
            kind="faint",
        )
    )
    first = size_panel("60M", left=60, low=1, high=2048)
    parts += drawn(first, "60M", preset("60M"))
    for point in points(crossover, "decode"):
        for row, colour in ((point.hybrid, 0), (point.attention, 1)):
            parts.append(
                dot(first.across(point.tokens), first.down(row["conversation_bytes"] / MIB), colour=colour, hollow=True)
            )
    second = size_panel("1.3B", left=440, low=8, high=16_384)
    parts += drawn(second, "1.3B", preset("1.3B"))
    return figure(
        parts, title="Memory of one sequence against its length",
        description="Two panels with both axes logarithmic, 60M and 1.3B, from 512 to 131,072 tokens. The share of the "
        "Mamba layers is a level line; keys and values grow with the length, for a hybrid with a third of its layers "
        f"about a third as fast as with attention in every layer. From about {equal(preset('60M')):,} tokens on a "
        "hybrid keeps less.",
        width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def equal(config: ModelConfig) -> int:
    """The length at which a Mamba layer keeps as much as the keys and values of an attention layer."""
    constant = state_bytes(replace(config, pattern=MAMBA), 0)
    return round(constant / state_bytes(replace(config, pattern=ATTENTION), 1))


def size_panel(name: str, *, left: float, low: float, high: float) -> Panel:
    """Axes in tokens and MiB."""
    across = [(tokens, f"{tokens // KIB}k" if tokens >= KIB else str(tokens)) for tokens in LENGTHS[::2]]
    ticks, value = [], low
    while value <= high:
        ticks.append((value, f"{value // KIB:g} GiB" if value >= KIB else f"{value:g} MiB"))
        value *= 4
    return Panel(
        left=left, top=104, width=290, height=230,
        x=Scale(low=LENGTHS[0], high=LENGTHS[-1], ticks=across, is_log=True),
        y=Scale(low=low, high=high, ticks=ticks, is_log=True),
    )  # fmt: skip


def drawn(panel: Panel, name: str, hybrid: ModelConfig) -> list[str]:
    """Axes and the three lines of a size."""
    alone = replace(hybrid, pattern=hybrid.pattern.replace(MAMBA, ATTENTION))
    constant = state_bytes(hybrid, 0) / MIB
    return [
        *axes(panel, title=name, across="tokens of the sequence", down="bf16 keys and values, float32 states"),
        *curve(panel, [(LENGTHS[0], constant), (LENGTHS[-1], constant)], colour=2, dots=False, dashed=True),
        *(
            piece
            for config, colour in ((alone, 1), (hybrid, 0))
            for piece in curve(
                panel, [(tokens, state_bytes(config, tokens) / MIB) for tokens in LENGTHS], colour=colour, dots=False
            )
        ),
    ]
