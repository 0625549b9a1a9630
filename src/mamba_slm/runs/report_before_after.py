"""What a fine-tuning or alignment changed, as a section of the report: held-out measures, and the benchmark drop."""

from __future__ import annotations

from mamba_slm.runs.before_after import HEADER, NUMERIC, Change, change_rows, score_change
from mamba_slm.runs.evidence import Evidence, number
from mamba_slm.runs.markdown import markdown_table
from mamba_slm.runs.report_benchmarks import curves

NOTE = (
    "Both sides saw the same held-out examples, and intervals of changes (95%) are paired; those of benchmarks take "
    "the two sides for independent and are wider than they need be."
)


def changes(evidence: Evidence) -> list[Change]:
    """On held-out examples, then of benchmarks that were asked before the first step; each once."""
    found = evidence.held_out_changes
    names = {change.name for change in found}
    return found + [change for change in benchmark_changes(evidence) if change.name not in names]


def benchmark_changes(evidence: Evidence) -> list[Change]:
    """Benchmarks whose first score is that of the model before it was trained."""
    return [
        score_change(
            f"{task} ({metric})",
            (rows[0]["score"], number(rows[0], "stderr")),
            (rows[-1]["score"], number(rows[-1], "stderr")),
            count=int(number(rows[-1], "questions") or 0),
            unit="" if abs(rows[0]["score"]) > 1 or abs(rows[-1]["score"]) > 1 else "share",
        )
        for (task, metric), rows in curves(evidence).items()
        if rows[0]["step"] == 0 and len(rows) > 1
    ]


def before_after(evidence: Evidence) -> str:
    """The table as Markdown; nothing where nothing was measured before."""
    found = changes(evidence)
    if not found:
        return ""
    return f"{markdown_table(HEADER, change_rows(found), right=NUMERIC)}\n\n{NOTE}"
