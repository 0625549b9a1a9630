"""The pages beside results.json."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.core.files import write_text_atomic
from mamba_slm.evaluation.results import Evaluation
from mamba_slm.evaluation.scores.page import render_scores
from mamba_slm.evaluation.scores.text import card

PAGE_FILE = "report.html"
CARD_FILE = "scores.md"


def write_pages(folder: Path, evaluation: Evaluation) -> None:
    """Write `folder`/report.html for people and `folder`/scores.md for a model card."""
    write_text_atomic(folder / PAGE_FILE, render_scores(evaluation))
    write_text_atomic(folder / CARD_FILE, card(evaluation))
