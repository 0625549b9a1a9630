"""report.html of an evaluation: scores with intervals beside landmarks, questions got wrong, and how it was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.units import format_seconds
from mamba_slm.evaluation.results import Evaluation, Sample, TaskResult
from mamba_slm.evaluation.scores.comparing import Difference
from mamba_slm.evaluation.scores.text import (
    CHANGES_HEADER,
    change_rows,
    changes_note,
    error,
    interval_of,
    is_share,
    landmark,
    results_shown,
    shown,
)
from mamba_slm.runs.report_page import PARTS, page_template, policy, trusted
from mamba_slm.runs.svg import element, percent

FOLDER = Path(__file__).parent / "page"
WRONG_SHOWN = 3
"""Questions of a task that are shown as examples of wrong answers."""
LONGEST_SHOWN = 300


def render_scores(evaluation: Evaluation) -> str:
    """The page of one model. The same evaluation gives the same bytes."""
    results = results_shown(evaluation)
    return page_of(
        "scores.html.j2",
        title=Path(evaluation.model).name or evaluation.model,
        headline=headline(evaluation, results),
        limit=evaluation.settings.get("limit"),
        rows=[score_row(one) for one in results],
        members=[score_row(one) for one in evaluation.tasks if one not in results],
        cited=[found for one in results if (found := landmark(one)) is not None],
        notes=[(one.task, one.note) for one in evaluation.tasks if one.note],
        wrong=[(one.task, found) for one in evaluation.tasks if (found := wrong_answers(evaluation, one))],
        facts=facts(evaluation),
    )


def render_comparison(first: Evaluation, second: Evaluation, differences: Sequence[Difference]) -> str:
    """The page of two models on the same questions."""
    names = [Path(side.model).name or side.model for side in (first, second)]
    widest = max((abs(edge) for one in differences for edge in edges(one)), default=0.0) or 1.0
    rows = [
        {"cells": row, "picture": difference_picture(one, widest)}
        for one, row in zip(differences, change_rows(differences), strict=True)
    ]
    return page_of(
        "comparison.html.j2",
        title=f"{names[0]} and {names[1]}",
        names=names,
        header=CHANGES_HEADER,
        rows=rows,
        note=changes_note(),
        facts=[(f"{name}: {key}", value) for name, side in zip(names, (first, second), strict=True)
               for key, value in facts(side)],
    )  # fmt: skip


def page_of(name: str, **content: Any) -> str:
    """A template with its content, self-contained."""
    style = (PARTS / "report.css").read_text(encoding="utf-8")
    return page_template(FOLDER / name).render(policy=policy(style=style, script=""), style=trusted(style), **content)


def headline(evaluation: Evaluation, results: Sequence[TaskResult]) -> str:
    """What was asked, in a sentence."""
    asked = sum(one.num_questions for one in evaluation.tasks)
    return f"{asked:,} questions of {len(results)} benchmarks in {format_seconds(evaluation.seconds)}."


def score_row(one: TaskResult) -> dict[str, Any]:
    """A row of the table of scores."""
    metric, theirs = one.main_metric, landmark(one)
    score = one.scores[metric]
    return {
        "task": one.task,
        "metric": metric,
        "examples": one.num_fewshot,
        "questions": f"{one.num_questions:,}",
        "score": shown(metric, score.value),
        "error": error(metric, score),
        "published": "" if theirs is None else f"{theirs.value:.1%}",
        "target": "" if theirs is None else theirs.target,
        "picture": score_picture(one) if is_share(metric) else "",
    }


def score_picture(one: TaskResult) -> str:
    """A bar for the score, a line for its interval, a stroke for the published score."""
    score, theirs = one.scores[one.main_metric], landmark(one)
    parts = [element("rect", {"width": percent(score.value), "height": "100%", "rx": 2})]
    if interval := interval_of(score):
        low, high = (percent(edge) for edge in interval)
        parts.append(element("line", {"x1": low, "x2": high, "y1": "50%", "y2": "50%", "stroke": "currentColor"}))
    if theirs is not None:
        at = percent(theirs.value)
        stroke = {"x1": at, "x2": at, "y1": 0, "y2": "100%", "stroke": "currentColor", "stroke-dasharray": "2 2"}
        parts.append(element("line", stroke))
    return element("svg", {"aria-hidden": "true"}, *parts)


def edges(one: Difference) -> tuple[float, ...]:
    """The ends of what a row of a comparison draws; of shares only, which have one scale."""
    if not is_share(one.metric):
        return ()
    return one.interval or (one.difference,)


def difference_picture(one: Difference, widest: float) -> str:
    """The interval of a difference about a line at 0."""
    if not edges(one):
        return ""
    low, high = min(edges(one)), max(edges(one))
    left, right = (percent(0.5 + 0.48 * edge / widest) for edge in (low, high))
    centre = percent(0.5 + 0.48 * one.difference / widest)
    middle = {"x1": "50%", "x2": "50%", "y1": 0, "y2": "100%", "stroke": "currentColor", "stroke-dasharray": "2 2"}
    line = {"x1": left, "x2": right, "y1": "50%", "y2": "50%", "stroke": "currentColor", "stroke-width": 2}
    dot = {"cx": centre, "cy": "50%", "r": 4, "fill": "currentColor"}
    parts = [element("line", middle), element("line", line), element("circle", dot)]
    return element("svg", {"aria-hidden": "true"}, *parts)


def wrong_answers(evaluation: Evaluation, one: TaskResult) -> list[dict[str, str]]:
    """The first questions of a task that were got wrong."""
    metric = one.main_metric
    wrong = [sample for sample in evaluation.samples.get(one.task, ()) if sample.scores.get(metric) == 0.0]
    return [answer_row(sample) for sample in wrong[:WRONG_SHOWN]]


def answer_row(sample: Sample) -> dict[str, str]:
    """A question that was got wrong."""
    return {
        "question": f"{sample.question:,}",
        "answer": shortened(sample.answer),
        "target": shortened(target_text(sample)),
    }


def target_text(sample: Sample) -> str:
    """The right choice in words, where the target is its number."""
    number = sample.target.strip()
    return sample.choices[int(number)] if number.isdigit() and int(number) < len(sample.choices) else sample.target


def shortened(text: str) -> str:
    """One line, cut at `LONGEST_SHOWN` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else line[:LONGEST_SHOWN] + " …"


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Model, settings and versions."""
    found = [("model", evaluation.model), *evaluation.fingerprint.items(), ("finished", evaluation.created)]
    found += [(name, str(value)) for name, value in evaluation.settings.items() if value not in (None, False)]
    tokens = evaluation.tokens
    if tokens.computed:
        found.append(("tokens read", f"{tokens.computed:,}, {tokens.saved:.2f} times fewer than with every prompt"))
    if tokens.generated:
        found.append(("tokens generated", f"{tokens.generated:,}"))
    return [*found, *evaluation.versions.items()]
