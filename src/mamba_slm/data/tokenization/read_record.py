"""What was read, as JSON: a task writes it, and the records of all tasks add up to one report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.reading.report import KEPT_PROBLEMS, ReadReport

COUNTS = ("num_files", "num_documents", "num_empty", "num_problems", "num_repaired", "num_repaired_characters")


def read_record(report: ReadReport) -> dict[str, Any]:
    """JSON-able."""
    return {
        **{name: getattr(report, name) for name in COUNTS},
        "problems": [[problem.message, problem.hint] for problem in report.problems],
        "left_out": dict(report.left_out),
        "other_files": dict(report.other_files),
    }


def report_of(records: Iterable[dict[str, Any]]) -> ReadReport:
    """The report of all parts together, in their order."""
    report = ReadReport()
    for record in records:
        for name in COUNTS:
            setattr(report, name, getattr(report, name) + record[name])
        report.problems += [DataError(message, hint=hint) for message, hint in record["problems"]]
        del report.problems[KEPT_PROBLEMS:]
        report.left_out.update(record["left_out"])
        report.other_files.update(record["other_files"])
    return report
