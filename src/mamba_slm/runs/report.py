"""The report card: Markdown or one HTML file, a pure function of the run directory, the same bytes every time.

It works at any moment, on half a run and on what is left of a damaged one, and says what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mamba_slm.core.files import write_text_atomic
from mamba_slm.runs import report_background as background
from mamba_slm.runs import report_benchmarks as asked
from mamba_slm.runs import report_layers as inside
from mamba_slm.runs import report_outcome as outcome
from mamba_slm.runs.evidence import Evidence, read_evidence
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.redact import redact_command, redact_text, redact_tree
from mamba_slm.runs.report_before_after import before_after
from mamba_slm.runs.report_page import render_page
from mamba_slm.runs.report_page_tables import SettingsFacts

Explain = Callable[[Mapping[str, Any]], SettingsFacts]
"""From the settings of a run (config.yaml) to what follows from them."""

SECTIONS = (
    ("Verdict", outcome.verdict),
    ("What is missing", outcome.missing),
    ("Result", outcome.result_table),
    ("Before and after", before_after),
    ("Plan and outcome", outcome.plan_and_outcome),
    ("Loss", outcome.loss_curve),
    ("What happened", outcome.what_happened),
    ("Benchmarks", asked.benchmarks),
    ("Layers", inside.layers),
    ("Speed", outcome.speed),
    ("Samples", background.samples),
    ("Data", background.data),
    ("Sources", inside.sources),
    ("Model", background.model),
    ("The same again", background.same_again),
    ("Files", background.files),
)
"""Heading → function of the evidence that gives its Markdown; an empty text leaves the section out."""


def render_report(run: str | os.PathLike[str]) -> str:
    """The report card of a run as Markdown.

    Raises:
        UsageError: the folder holds no run.
        SetupError: a file in it was written by a newer package.
    """
    evidence = presentable(read_evidence(RunDirectory.open(run)))
    parts = [f"# {background.title(evidence)} — report card", outcome.headline(evidence)]
    for heading, render in SECTIONS:
        body = render(evidence)
        if body:
            parts += [f"## {heading}", body]
    return "\n\n".join(parts) + "\n"


def render_html(run: str | os.PathLike[str], *, explain: Explain | None = None) -> str:
    """The report card of a run as one HTML file that fetches nothing.

    Args:
        explain: gives defaults and sizes; `mamba_slm.training.report_cards.explain_settings` does. None leaves out what
            differs from the defaults, parameters by part, and memory by context.

    Raises: see `render_report`.
    """
    evidence = presentable(read_evidence(RunDirectory.open(run)))
    return render_page(evidence, explain(evidence.config) if explain else None)


def presentable(evidence: Evidence) -> Evidence:
    """What others may see: without secrets and names of home folders. What the model said stays as it is."""
    record, status = evidence.record, evidence.status
    if record is not None:
        record = replace(
            record,
            command=tuple(map(redact_text, redact_command(record.command))),
            versions=redact_tree(record.versions),
            hardware=redact_tree(record.hardware),
            estimate=redact_tree(record.estimate),
            result=redact_tree(record.result),
        )
    return replace(
        evidence,
        record=record,
        status=status and replace(status, message=redact_text(status.message)),
        config=redact_tree(evidence.config),
        data=redact_tree(evidence.data),
        events=redact_tree(evidence.events),
        evaluation=redact_tree(evidence.evaluation),
        problems=tuple(map(redact_text, evidence.problems)),
    )


def write_html(run: str | os.PathLike[str], *, explain: Explain | None = None) -> Path:
    """Render the page into `report.html` of the run, atomically; returns its path.

    Raises: see `render_html`; DiskFullError.
    """
    directory = RunDirectory(Path(run))
    write_text_atomic(directory.page_file, render_html(directory, explain=explain))
    return directory.page_file


def write_report(run: str | os.PathLike[str]) -> Path:
    """Render the card into `report.md` of the run, atomically; returns its path.

    Raises: see `render_report`; DiskFullError.
    """
    directory = RunDirectory(Path(run))
    write_text_atomic(directory.report_file, render_report(directory))
    return directory.report_file
