"""The results as rows for a screen, and what to say about the machine. From the results alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mamba_slm.evaluation.bench.cells import ENGINES

HEADER = (
    "task",
    "tokens",
    "precision",
    "contender",
    "tokens/s",
    "ours ×",
    "share",
    "loaded MiB",
    "peak MiB",
    "differs",
)
RIGHT = tuple(name for name in HEADER if name not in ("task", "precision", "contender"))
EXPLANATION = """\
ours ×   median over the rounds of the contender's time over ours: above 1, ours is faster
share    of the machine: FLOP/s over those of the model's matrix products alone (train, prefill); bytes that a token
         must read, weights, state, keys and values, over the bandwidth of reading as many bytes as the weights (decode)
loaded   resident memory before the first step, weights and libraries included
peak     most resident memory from then on (decode: from when the prompt was read)
differs  from ours, relative: loss and gradient norm (train), last logits (prefill, decode)"""
IDLE_LOAD = 0.5
BUSY_CORES = 0.1


def table_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """The cells under HEADER; a cell is named in its first row only."""
    for cell in results["cells"]:
        for number, row in enumerate(cell["rows"]):
            name = [cell["task"], f"{cell['tokens']:,}", cell["precision"]] if number == 0 else ["", "", ""]
            contender = row["contender"]
            difference = cell.get("engines_relative_difference", {}).get(contender)
            if contender == "granite":
                difference = cell["agreement"]["relative_difference"]
            yield [
                *name,
                ENGINES.get(contender, contender),
                speed(row["tokens_per_second"]),
                f"{row['ours_times_as_fast']:.2f}",
                f"{row['share_of_machine']:.0%}",
                f"{row['loaded_bytes'] / 2**20:,.0f}",
                f"{row['peak_bytes'] / 2**20:,.0f}",
                "" if difference is None else f"{difference:.0e}",
            ]


def speed(tokens_per_second: float) -> str:
    """Three digits or more.

    >>> speed(1234.5), speed(31.26)
    ('1,234', '31.3')
    """
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def machine_remarks(results: dict[str, Any]) -> Iterator[str]:
    """Warnings for a machine that did something else meanwhile."""
    if results["load_average"] > IDLE_LOAD:
        yield f"the machine was not idle at the start: load average {results['load_average']:.1f}"
    busy = [cell for cell in results["cells"] if (cell["busy_elsewhere_cores"] or 0.0) > BUSY_CORES]
    if busy:
        worst = max(busy, key=lambda cell: cell["busy_elsewhere_cores"])
        yield (
            f"other programs kept more than {BUSY_CORES} cores busy during {len(busy)} of {len(results['cells'])} "
            f"cells, at most {worst['busy_elsewhere_cores']:.1f} ({worst['task']}, {worst['tokens']:,} tokens)"
        )
