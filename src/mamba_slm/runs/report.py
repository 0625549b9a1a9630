"""The report card: Markdown, a pure function of the run directory, the same bytes every time.

It works at any moment, on half a run and on what is left of a damaged one, and says what is missing.
"""

from __future__ import annotations

import os
from pathlib import Path

from mamba_slm.core.files import write_text_atomic
from mamba_slm.runs import report_background as background
from mamba_slm.runs import report_outcome as outcome
from mamba_slm.runs.evidence import read_evidence
from mamba_slm.runs.layout import RunDirectory

SECTIONS = (
    ("Verdict", outcome.verdict),
    ("What is missing", outcome.missing),
    ("Result", outcome.result_table),
    ("Plan and outcome", outcome.plan_and_outcome),
    ("Loss", outcome.loss_curve),
    ("What happened", outcome.what_happened),
    ("Speed", outcome.speed),
    ("Samples", background.samples),
    ("Data", background.data),
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
    evidence = read_evidence(RunDirectory.open(run))
    parts = [f"# {background.title(evidence)} — report card", outcome.headline(evidence)]
    for heading, render in SECTIONS:
        body = render(evidence)
        if body:
            parts += [f"## {heading}", body]
    return "\n\n".join(parts) + "\n"


def write_report(run: str | os.PathLike[str]) -> Path:
    """Render the card into `report.md` of the run, atomically; returns its path.

    Raises: see `render_report`; DiskFullError.
    """
    directory = RunDirectory(Path(run))
    write_text_atomic(directory.report_file, render_report(directory))
    return directory.report_file
