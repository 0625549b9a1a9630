"""docs/reference/crossover.md: the hybrid against attention alone, from the results alone."""

from __future__ import annotations

import shlex
from typing import Any

from _surroundings import commit_of, threads_of, warning_of

from mamba_slm.evaluation.bench.crossover import CLAIMED, WHAT, Point, memory_verdict, points, verdict
from mamba_slm.evaluation.bench.names import ATTENTION, OURS
from mamba_slm.evaluation.bench.table import left_out_lines, speed
from mamba_slm.runs.markdown import markdown_table


def crossover_page(results: dict[str, Any], *, chart_file: str) -> str:
    """The whole page."""
    hybrid, other = (results["contenders"][name] for name in (OURS, ATTENTION))
    hardware, low, high = results["hardware"], *CLAIMED
    verdicts = "\n".join(f"- {verdict(results, task)}" for task in WHAT)
    left_out = "\n".join(f"- {line}" for line in left_out_lines(results)) or "- Nothing."
    tables = "\n\n".join(
        f"### {what.capitalize()}\n\n{task_table(points(results, task), task)}" for task, what in WHAT.items()
    )
    return f"""\
# Hybrid or attention alone

<!-- Written by `make bench`; do not edit. -->

The published claim for hybrids of this kind was {low - 1:.0%} to {high - 1:.0%} more speed than attention alone. Here
both are measured with the same code, kernels, data and number of parameters, on one machine:

- **hybrid**: `{hybrid["settings"]["pattern"]}`, feed-forward {hybrid["settings"]["feed_forward_size"]:,},
  {hybrid["parameters"]:,} parameters
- **attention alone**: `{other["settings"]["pattern"]}`, feed-forward {other["settings"]["feed_forward_size"]:,},
  {other["parameters"]:,} parameters ({other["parameters"] / hybrid["parameters"] - 1:+.2%})

What the measurements say:

{verdicts}
- {memory_verdict(results)}

![ratio of times against length]({chart_file})

`{results["model"]}`, one sequence, {threads_of(results)}; {hardware["processor"]}, {hardware["cores"]} cores, PyTorch
{results["versions"]["torch"]}, source {commit_of(results)}, load average at the start {results["load_average"]}.
Kernels: {hybrid["settings"]["kernels"]}.

```text
{shlex.join(results["command"])}
```

{warning_of(results)}*×*: time of attention alone over that of the hybrid, the median over the rounds; above 1 the
hybrid is faster. Lengths between measured ones are interpolated on a logarithmic scale. *peak*: the most resident
memory of the process; *state*: what one sequence keeps when its prompt was read, unused room included.

{tables}

## Left out, and why

{left_out}
"""


def task_table(found: list[Point], task: str) -> str:
    """One row per length."""
    header = ["tokens", "hybrid tok/s", "attention tok/s", "×", "hybrid peak MiB", "attention peak MiB", "rounds"]
    if task == "decode":
        header[6:6] = ["hybrid state MiB", "attention state MiB"]
    rows = [
        [
            f"{point.tokens:,}",
            speed(point.hybrid["tokens_per_second"]),
            speed(point.attention["tokens_per_second"]),
            f"{point.ratio:.2f}",
            *(f"{row['peak_bytes'] / 2**20:,.0f}" for row in (point.hybrid, point.attention)),
            *(
                f"{(row['conversation_bytes'] or 0) / 2**20:.1f}"
                for row in ((point.hybrid, point.attention) if task == "decode" else ())
            ),
            " / ".join(str(len(row["seconds_by_round"])) for row in (point.hybrid, point.attention)),
        ]
        for point in found
    ]
    return markdown_table(header, rows, right=header)
