"""What a run's numbers depend on, in words. From the results alone."""

from __future__ import annotations

from typing import Any

from mamba_slm.evaluation.bench.table import LIMITS_HEADER, limit_rows, limits_in_words, machine_remarks
from mamba_slm.runs.markdown import markdown_table


def commit_of(results: dict[str, Any]) -> str:
    """The source that was measured."""
    source = results["source"]
    return "unknown" if source is None else source["commit"][:12] + (" with local changes" if source["dirty"] else "")


def threads_of(results: dict[str, Any]) -> str:
    """One thread, 2 threads."""
    threads = results["settings"]["threads"]
    return "one thread" if threads == 1 else f"{threads} threads"


def warning_of(results: dict[str, Any]) -> str:
    """A paragraph where the machine did something else meanwhile, or nothing."""
    remarks = "; ".join(machine_remarks(results))
    return f"**Not a quiet machine**: {remarks}.\n\n" if remarks else ""


def limits_section(results: dict[str, Any]) -> str:
    """The limits of the machine, heading included."""
    if results["limits"] is None:
        return ""
    said = limits_in_words(results)
    table = markdown_table(list(LIMITS_HEADER), list(limit_rows(results)), right=[])
    return f"""\
## The limits of this machine

{said[0].upper()}{said[1:]}. The best of {results["settings"]["rounds"]} passes, before the contenders start; a buffer
that fits into a cache is read from there. The shares below are of rates measured in every round beside the contenders:
of the model's own products, and of reading as many bytes as a step touches, in pages of 2 MiB.

{table}

"""
