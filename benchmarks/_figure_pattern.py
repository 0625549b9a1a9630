"""The pattern of each size as a strip, and where attention stands in stacks of any depth. From the code alone."""

from __future__ import annotations

from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA, attention_layers
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.runs.svg_figure import cell, figure, legend, squares, text

COLOUR = {MAMBA: 0, ATTENTION: 1, FEED_FORWARD: 5}
NAMES = {"M, Mamba-2": 0, "*, attention": 1, "-, feed-forward": 5}
WIDTH, LEFT, CELL, ROW = 760, 118, 7.6, 30
MOST_LAYERS = 40


def strips() -> str:
    """One strip per preset, the classic form of 1.3B at the end."""
    rows = [(name, preset(name).pattern) for name in SIZES]
    rows.append(("1.3B, classic", preset("1.3B", layout="classic").pattern))
    parts = legend(NAMES, left=LEFT, top=12, width=WIDTH - LEFT)
    for number, (name, pattern) in enumerate(rows):
        y = 44 + number * ROW
        parts.append(text(LEFT - 10, y + 14, name, anchor="end"))
        parts += [
            cell(LEFT + place * CELL, y, CELL - 1.2, 20 if letter != FEED_FORWARD else 11, colour=COLOUR[letter],
                 words=f"{place}: {letter}")
            for place, letter in enumerate(pattern)
        ]  # fmt: skip
    height = 44 + len(rows) * ROW + 26
    parts.append(text(LEFT, height - 12, "left: nearest the embedding; one bar per sublayer", kind="faint"))
    return figure(
        parts, title="The layer pattern of each size",
        description="One row per preset with a bar for each sublayer, from the embedding to the head: "
        + "; ".join(f"{name} {pattern}" for name, pattern in rows),
        width=WIDTH, height=height,
    )  # fmt: skip


def placement() -> str:
    """One row per depth, one square per layer."""
    side, left, top = 12.0, 60, 66
    parts = legend({"attention": 1, "Mamba-2": 0}, left=left, top=12, width=500)
    parts.append(text(left, 56, "layer, counted from 0 at the embedding", kind="faint"))
    parts.append(text(left - 8, 56, "layers", anchor="end", kind="faint"))
    attention: list[tuple[float, float]] = []
    mamba: list[tuple[float, float]] = []
    for layers in range(1, MOST_LAYERS + 1):
        y, chosen = top + (layers - 1) * side, set(attention_layers(layers))
        if layers % 5 == 0 or layers == 1:
            parts.append(text(left - 8, y + 10, str(layers), anchor="end"))
        for layer in range(layers):
            (attention if layer in chosen else mamba).append((left + layer * side, y))
    parts.append(squares(attention, side - 1.5, colour=1))
    parts.append(squares(mamba, side - 1.5, colour=0, opacity=0.3))
    height = top + MOST_LAYERS * side + 14
    return figure(
        parts, title="Where attention stands, by the number of layers",
        description="One row for each depth from 1 to 40 layers. Below 15 layers attention is spread evenly; from 15 "
        "on layers 1 and 2 and the last three hold attention, the others are spread between them.",
        width=left + MOST_LAYERS * side + 20, height=height,
    )  # fmt: skip
