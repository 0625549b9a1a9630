"""The figures of docs/concepts, from the code and the committed results alone: a part of `make docs`.

python benchmarks/figures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from _figure_estimates import compared_figure, memory_figure
from _figure_packing import packing_figure
from _figure_pattern import placement, strips
from _figure_precision import precision_figure
from _figure_speed import rounds_figure, speed_figure
from _figure_state import state_figure
from page import REPOSITORY, read

from mamba_slm.core.files import write_text_atomic

FOLDER = REPOSITORY / "docs" / "concepts"


def figures() -> dict[Path, str]:
    """Every figure, with its text."""
    crossover = read("crossover")
    conformance = (REPOSITORY / "docs" / "reference" / "conformance.md").read_text(encoding="utf-8")
    log = (REPOSITORY / "docs" / "log.md").read_text(encoding="utf-8")
    drawn = {
        "pattern": strips(),
        "placement": placement(),
        "state": state_figure(crossover),
        "packing": packing_figure(read("gradients")),
        "precision": precision_figure(conformance),
        "speed": speed_figure(crossover),
        "memory": memory_figure(),
        "estimates": compared_figure(log),
        "rounds": rounds_figure({"crossover": crossover}),
    }
    return {FOLDER / f"{name}.svg": text for name, text in drawn.items()}


def main() -> int:
    """Write them all."""
    for path, text in figures().items():
        write_text_atomic(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
