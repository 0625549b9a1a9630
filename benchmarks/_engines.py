"""The same weights in other programs, as a section of docs/reference/benchmarks.md. From the results alone."""

from __future__ import annotations

import shlex
from typing import Any

from mamba_slm.evaluation.bench.table import HEADER, RIGHT, machine_remarks, table_rows
from mamba_slm.runs.markdown import markdown_table


def engines_section(results: dict[str, Any]) -> str:
    """The section, heading included."""
    remarks = "; ".join(machine_remarks(results))
    warning = f"**Not a quiet machine**: {remarks}.\n\n" if remarks else ""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    settings = "\n".join(
        f"- **{name}**: " + "; ".join(f"{key}: {value}" for key, value in facts["settings"].items())
        for name, facts in results["contenders"].items()
    )
    return f"""\
## The same weights in ONNX Runtime and llama.cpp

`{results["model"]}` exported by `mamba-slm export onnx` and `export gguf`, in turns with ours; threads:
{results["settings"]["threads"]}, {versions}. *share* is of what the machine reads per second, for the bytes that this
engine must read. *differs* is the norm of the difference of the last logits, relative to ours: rounding weights to 8
and 4 bits hurts random weights most.

```text
{shlex.join(results["command"])}
```

{warning}{settings}

{markdown_table(list(HEADER), list(table_rows(results)), right=list(RIGHT))}
"""
