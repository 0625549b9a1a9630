"""A packed row, and which tokens the loss of each token reaches. From benchmarks/results/gradients.json alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

from mamba_slm.runs.svg import element
from mamba_slm.runs.svg_figure import cell, figure, squares, text

SIDE, TOP, LEFTS = 6.4, 112, (56, 424)
FAINTEST, STRENGTHS = 0.12, 12
DOCUMENT_COLOURS = (0, 1, 2, 3)


def packing_figure(results: dict[str, Any]) -> str:
    """Above the row with its documents, below the gradients with borders and without."""
    documents = results["document_tokens"]
    total = sum(documents)
    ends = list(itertools.accumulate(documents))
    starts = [0, *ends[:-1]]
    tables = {
        name: [[float(value) for value in row.split()] for row in results[name]] for name in ("packed", "one_text")
    }
    values = [value for table in tables.values() for row in table for value in row if value]
    largest, smallest = max(values), min(values)
    parts = []
    for left, name, title in zip(
        LEFTS, ("packed", "one_text"), ("packed: with document ids", "the same tokens as one text"), strict=True
    ):
        parts.append(text(left, 28, title, bold=True))
        for number, (start, length) in enumerate(zip(starts, documents, strict=True)):
            colour = DOCUMENT_COLOURS[number] if name == "packed" else DOCUMENT_COLOURS[0]
            parts.append(cell(left + start * SIDE, 44, length * SIDE - 1.5, 20, colour=colour, opacity=0.9))
            parts.append(text(left + (start + length / 2) * SIDE, 78, f"{length}", anchor="middle", kind="faint"))
        parts.append(text(left - 8, 78, "tokens", anchor="end", kind="faint"))
        parts.append(text(left, TOP - 8, "token that is read →", kind="faint"))
        parts.append(
            element(
                "rect",
                {"x": left, "y": TOP, "width": total * SIDE, "height": total * SIDE, "fill": "none", "class": "grid"},
            )
        )
        places: dict[tuple[int, float], list[tuple[float, float]]] = {}
        for i, row in enumerate(tables[name]):
            document = next(number for number, end in enumerate(ends) if i < end) if name == "packed" else 0
            for j, value in enumerate(row):
                if value:
                    share = math.log(value / smallest) / math.log(largest / smallest)
                    level = round(STRENGTHS * share) / STRENGTHS
                    places.setdefault((document, level), []).append((left + j * SIDE, TOP + i * SIDE))
        parts += [
            squares(found, SIDE, colour=DOCUMENT_COLOURS[document],
                    opacity=round(FAINTEST + (1 - FAINTEST) * level, 2))
            for (document, level), found in places.items()
        ]  # fmt: skip
    height = TOP + total * SIDE + 62
    parts.append(text(LEFTS[0], height - 40, "down: the token whose loss it is; filled: what that loss depends on, by "
                      "the length of the gradient"))  # fmt: skip
    parts.append(text(LEFTS[0], height - 20, f"empty: exactly 0.0; measured on nano, {results['pattern']}, with "
                      "random weights (benchmarks/gradients.py)", kind="faint"))  # fmt: skip
    return figure(
        parts, title="A packed row, and what the loss of each token depends on",
        description=f"Two squares of {total} by {total} cells. With document ids only four triangles along the "
        "diagonal are filled, one per document; everything outside is exactly zero. Without them the whole lower "
        "triangle is filled: each token depends on everything before it, other documents included.",
        width=760, height=height,
    )  # fmt: skip
