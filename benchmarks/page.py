"""docs/reference/benchmarks.md and its chart, from benchmarks/results alone: the last step of `make bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _chart import chart
from _engines import engines_section
from _ops_table import ops_section
from _peers import peers_section

from mamba_slm.core.files import write_text_atomic

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = REPOSITORY / "docs" / "reference" / "benchmarks.md"
CHART = PAGE.with_suffix(".svg")


def page(ops: dict[str, Any], transformers: dict[str, Any], engines: dict[str, Any]) -> str:
    """The whole page."""
    return f"""\
# Benchmarks

<!-- Written by `make bench`; do not edit. -->

Speed and memory, as ratios within one run on one machine.

{peers_section(transformers, chart_file=CHART.name)}
{engines_section(engines)}
{ops_section(ops)}"""


def read(name: str) -> dict[str, Any]:
    """The committed results of that name."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def main() -> int:
    """Write page and chart."""
    transformers = read("transformers")
    write_text_atomic(PAGE, page(read("ops"), transformers, read("engines")))
    write_text_atomic(CHART, chart(transformers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
