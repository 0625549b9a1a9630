"""Start-up as a section of docs/reference/benchmarks.md. From the results alone."""

from __future__ import annotations

import shlex
from typing import Any

from mamba_slm.evaluation.bench.startup import EXPLANATION, HEADER, table_rows
from mamba_slm.runs.markdown import markdown_table


def startup_section(results: dict[str, Any]) -> str:
    """The section, heading included."""
    return f"""\
## Start-up

Fresh processes, one after the other; load average at the start {results["load_average"]}.

```text
{shlex.join(results["command"])}

{EXPLANATION}
```

{markdown_table(list(HEADER), table_rows(results), right=list(HEADER[1:]))}
"""
