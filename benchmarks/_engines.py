"""The same weights in other programs, and batches, as sections of docs/reference/benchmarks.md."""

from __future__ import annotations

import shlex
from typing import Any

from _surroundings import threads_of, warning_of

from mamba_slm.evaluation.bench.names import label
from mamba_slm.evaluation.bench.table import HEADER, RIGHT, flatness, left_out_lines, table_rows
from mamba_slm.runs.markdown import markdown_table


def engines_section(results: dict[str, Any]) -> str:
    """Prefill by length, heading included."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    flat = ", ".join(f"{name} {value:.0%}" for name, value in flatness(results).items())
    return f"""\
## Prefill beside ONNX Runtime and llama.cpp

`{results["model"]}` exported by `mamba-slm export onnx` and `export gguf`, in turns with ours in several precisions;
{threads_of(results)}, {versions}. *share* is of the rate of the model's matrix products alone in the contender's
precision (INT8 and smaller: products of 8 bits). *differs* is the norm of the difference of the last logits, relative
to ours in fp32: rounding weights to 8 and 4 bits hurts random weights most.

```text
{shlex.join(results["command"])}
```

{warning_of(results)}Slowest over fastest tokens/s of the lengths: {flat or "one length only"}.

{details(results)}
"""


def decoding_section(results: dict[str, Any]) -> str:
    """Decoding and batches, heading included."""
    return f"""\
## Decoding alone and in batches, beside ONNX Runtime and llama.cpp

`{results["model"]}`, {threads_of(results)}; tokens/s of all sequences of a batch together. *share* is of the bandwidth
measured beside it for as many bytes as a step touches: the weights once, and the states, keys and values of all
sequences. *state* is what one sequence keeps in memory; the Mamba layers' part of it does not grow with the text.
llama.cpp decodes one sequence here.

```text
{shlex.join(results["command"])}
```

{warning_of(results)}{details(results)}
"""


def details(results: dict[str, Any]) -> str:
    """How the contenders run, what was left out, and the table."""
    settings = "\n".join(
        f"- **{label(name)}**: " + "; ".join(f"{key}: {value}" for key, value in facts["settings"].items())
        for name, facts in results["contenders"].items()
    )
    left_out = "".join(f"\n- Not measured or not in turns: {line}." for line in left_out_lines(results))
    return f"""\
{settings}{left_out}

{markdown_table(list(HEADER), list(table_rows(results)), right=list(RIGHT))}"""
