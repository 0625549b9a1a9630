"""Benchmarks that were asked while a run trained, as a table and as curves."""

from __future__ import annotations

from collections.abc import Sequence

from mamba_slm.runs.evidence import Evidence, Row, number
from mamba_slm.runs.markdown import markdown_table
from mamba_slm.runs.report_outcome import shown
from mamba_slm.runs.svg_chart import Chart, horizontal_scale, render_chart, vertical_scale

HEADER = ["benchmark", "metric", "questions", "first", "best", "last", "± 1 s.e."]
MOST_CHARTS = 12


def curves(evidence: Evidence) -> dict[tuple[str, str], list[Row]]:
    """The rows of each benchmark and metric, in the order of their steps."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in evidence.benchmarks:
        if number(row, "score") is not None and number(row, "step") is not None:
            found.setdefault((str(row.get("task")), str(row.get("metric"))), []).append(row)
    return {key: sorted(rows, key=lambda row: row["step"]) for key, rows in found.items()}


def rows_of(evidence: Evidence) -> list[list[str]]:
    """One line per benchmark; best is the highest score."""
    found = []
    for (task, metric), rows in curves(evidence).items():
        best = max(rows, key=lambda row: row["score"])
        found.append(
            [
                task,
                metric,
                shown(number(rows[-1], "questions"), "{:,.0f}".format),
                at(rows[0]),
                at(best),
                at(rows[-1]),
                shown(number(rows[-1], "stderr"), "{:.4f}".format),
            ]
        )
    return found


def at(row: Row) -> str:
    """A score and its step."""
    return f"{shown(number(row, 'score'), '{:.4f}'.format)} at {shown(number(row, 'step'), '{:,.0f}'.format)}"


def benchmarks(evidence: Evidence) -> str:
    """The table as Markdown; nothing without any."""
    rows = rows_of(evidence)
    return markdown_table(HEADER, rows, right=HEADER[2:]) if rows else ""


def charts(evidence: Evidence) -> list[dict[str, str]]:
    """One curve per benchmark with a band of one standard error, of those that were asked more than once."""
    asked = {key: rows for key, rows in curves(evidence).items() if len(rows) > 1}
    return [
        {"title": task, "unit": metric, "value": at(rows[-1]), "svg": chart(task, rows)}
        for (task, metric), rows in list(asked.items())[:MOST_CHARTS]
    ]


def chart(task: str, rows: Sequence[Row]) -> str:
    """The picture of one benchmark."""
    steps, scores = [float(row["step"]) for row in rows], [float(row["score"]) for row in rows]
    errors = [number(row, "stderr") or 0.0 for row in rows]
    low = [score - error for score, error in zip(scores, errors, strict=True)]
    high = [score + error for score, error in zip(scores, errors, strict=True)]
    y, _ = vertical_scale(low, high, from_zero=False)
    return render_chart(
        Chart(
            name=f"benchmark-{task.replace('_', '-')}",
            title=f"{task} over the run",
            description=f"{len(rows)} times; {at(rows[0])}, {at(rows[-1])}",
            positions=steps,
            low=list(low),
            mean=[None] * len(rows),
            high=list(high),
            smooth=list(scores),
            x=horizontal_scale(steps, unit="count"),
            y=y,
            points=list(zip(steps, scores, strict=True)),
        )
    )
