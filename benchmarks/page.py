"""docs/reference/benchmarks.md and crossover.md with their charts, from benchmarks/results: the end of `make bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _chart import chart, crossover_chart
from _crossover import crossover_page
from _engines import decoding_section, engines_section
from _ops_table import ops_section
from _peers import peers_section
from _startup import startup_section
from _surroundings import limits_section

from mamba_slm.core.files import write_text_atomic

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = REPOSITORY / "docs" / "reference" / "benchmarks.md"
CROSSOVER = PAGE.with_name("crossover.md")
NAMES = ("ops", "transformers", "engines", "decoding", "startup", "crossover")


def page(results: dict[str, Any]) -> str:
    """The whole page of benchmarks."""
    return f"""\
# Benchmarks

<!-- Written by `make bench`; do not edit. -->

Speed and memory, as ratios within one run on one machine. [Hybrid or attention alone]({CROSSOVER.name}) has a page of
its own.

{limits_section(results["transformers"])}{peers_section(results["transformers"], chart_file=chart_of(PAGE).name)}
{engines_section(results["engines"])}
{decoding_section(results["decoding"])}
{startup_section(results["startup"])}
{ops_section(results["ops"])}"""


def written(results: dict[str, Any]) -> dict[Path, str]:
    """Every file of the pages, with its text."""
    return {
        PAGE: page(results),
        chart_of(PAGE): chart(results["transformers"], results["engines"]),
        CROSSOVER: crossover_page(results["crossover"], chart_file=chart_of(CROSSOVER).name),
        chart_of(CROSSOVER): crossover_chart(results["crossover"]),
    }


def chart_of(page: Path) -> Path:
    """The picture of a page."""
    return page.with_suffix(".svg")


def read(name: str) -> dict[str, Any]:
    """The committed results of that name."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def main() -> int:
    """Write pages and charts."""
    for path, text in written({name: read(name) for name in NAMES}).items():
        write_text_atomic(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
