"""The model beside transformers as a section of docs/reference/benchmarks.md. From the results alone."""

from __future__ import annotations

import shlex
from typing import Any

from _surroundings import commit_of, threads_of, warning_of

from mamba_slm.evaluation.bench.table import left_out_lines, share, speed
from mamba_slm.runs.markdown import markdown_table

NAMES = {"ours": "ours", "plain": "plain", "granite": "hybrid", "llama": "Llama"}
TITLES = {
    "train": "Training step, {precision} autocast",
    "prefill": "Prefill, {precision} weights",
    "decode": "Decode, {precision} weights",
}
SHARE_OF = {"train": "GEMM", "prefill": "GEMM", "decode": "bandwidth"}


def panels(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The cells of each task and precision, under its title."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for cell in results["cells"]:
        grouped.setdefault(TITLES[cell["task"]].format(precision=cell["precision"]), []).append(cell)
    return grouped


def peers_section(results: dict[str, Any], *, chart_file: str) -> str:
    """The section, heading included."""
    hardware, versions, settings = results["hardware"], results["versions"], results["settings"]
    waiting = "".join(f" ({name}={value})" for name, value in results["waiting"].items())
    tables = "\n\n".join(f"### {title}\n\n{cell_table(cells)}" for title, cells in panels(results).items())
    left_out = "".join(f"\n- Not measured or not in turns: {line}." for line in left_out_lines(results))
    return f"""\
## The model beside transformers

![tokens per second against length]({chart_file})

`{results["model"]}`, one sequence, {threads_of(results)}{waiting}. {hardware["processor"]}, {hardware["cores"]} cores,
PyTorch {versions["torch"]}, transformers {versions["transformers"]}, source {commit_of(results)}, load average at the
start {results["load_average"]}. *hybrid* is transformers' GraniteMoeHybrid with the same weights, *Llama* its Llama
with as many parameters.

```text
{shlex.join(results["command"])}
```

{warning_of(results)}{contender_lines(results)}

Every implementation runs in a process of its own, started anew for every row. They are timed in turns; speeds are
medians of the rounds, after one that is not counted: {settings["rounds"]} rounds, {settings["long_rounds"]} where the
first took longer than {settings["long_seconds"]:g} s, one where it took more than {settings["very_long_seconds"]:g} s.
Decoding makes {settings["decode_tokens"]} tokens behind the prompt, greedily; the first one is not counted. Where
several numbers share a cell, they stand in the order of the speeds. *plain* is ours without a compiled decoding step.
Nobody's allocator is set from outside: our training step tells glibc to keep freed memory, as `mamba-slm train` does,
and transformers' does not.

- *×*: the median over the rounds of the other's time over ours; above 1, ours is faster.
- *of GEMM*: the FLOP/s of the model (training three times the forward pass: the MFU; prefill with the head for the last
  token only) over those of its matrix products alone, all of them once per round, in the same precision.
- *of bandwidth*: the bytes that a token touches (weights, state, keys and values) over the rate of reading a buffer
  of as many bytes in huge pages, by the fastest of three reductions in each round.
- *loaded*: resident memory of the process before the first step, libraries and weights included. *peak*: the most from
  then on (decode: from when the prompt was read), optimiser included.
- *differ*: ours from hybrid, relative: loss and gradient norm of the first training step, or the norm of the last
  logits. More than rounding explains would have ended the run.{left_out}

{tables}
"""


def contender_lines(results: dict[str, Any]) -> str:
    """How each contender runs."""
    lines = []
    for name, facts in results["contenders"].items():
        told = "; ".join(f"{key}: {value}" for key, value in facts["settings"].items())
        lines.append(f"- **{NAMES[name]}**, {facts['parameters']:,} parameters. {told}")
    return "\n".join(lines)


def cell_table(cells: list[dict[str, Any]]) -> str:
    """One row per length; a contender that is absent from a cell has a dash there."""
    names = list(dict.fromkeys(row["contender"] for cell in cells for row in cell["rows"]))
    proven = any(cell["agreement"] for cell in cells)
    header = [
        "tokens",
        *(f"{NAMES[name]} tok/s" for name in names),
        *(f"× {NAMES[name]}" for name in names[1:]),
        f"of {SHARE_OF[cells[0]['task']]}",
        "loaded MiB",
        "peak MiB",
        "rounds",
        *(["differ"] if proven else []),
    ]
    rows = []
    for cell in cells:
        by_name = {row["contender"]: row for row in cell["rows"]}
        present = [by_name.get(name) for name in names]
        rows.append(
            [
                f"{cell['tokens']:,}",
                *("–" if row is None else speed(row["tokens_per_second"]) for row in present),
                *("–" if row is None else f"{row['ours_times_as_fast']:.2f}" for row in present[1:]),
                " / ".join("–" if row is None else share(row) for row in present),
                " / ".join("–" if row is None else f"{row['loaded_bytes'] / 2**20:,.0f}" for row in present),
                " / ".join("–" if row is None else f"{row['peak_bytes'] / 2**20:,.0f}" for row in present),
                " / ".join("–" if row is None else str(len(row["seconds_by_round"])) for row in present),
                *([f"{cell['agreement']['relative_difference']:.0e}" if cell["agreement"] else "–"] if proven else []),
            ]
        )
    return markdown_table(header, rows, right=header)
