"""Scores as people read them: percentages, intervals, rows of tables, and a Markdown card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mamba_slm.evaluation.results import Evaluation, Score, TaskResult
from mamba_slm.evaluation.scores.comparing import LEVEL, WIDTH, Difference
from mamba_slm.evaluation.scores.published import Published, published
from mamba_slm.runs.markdown import inline_code, markdown_table

SHARES = ("acc", "exact_match", "pass@")
"""Beginnings of the names of metrics that are shares of questions."""
CHANGES_HEADER = ("benchmark", "metric", "first", "second", "difference", "", "questions", "changed")
CHANGES_RIGHT = ("first", "second", "difference", "questions", "changed")


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the questions, to be shown as a percentage.

    >>> is_share("acc_norm"), is_share("exact_match,strict-match"), is_share("bleu_acc"), is_share("perplexity")
    (True, True, True, False)
    """
    plain = metric.partition(",")[0]
    return plain.startswith(SHARES) or plain.endswith("_acc")


def shown(metric: str, value: float, *, sign: bool = False) -> str:
    """A score or a difference of scores.

    >>> shown("acc", 0.25), shown("acc", -0.0123, sign=True), shown("perplexity", 12.3456)
    ('25.00%', '-1.23%', '12.346')
    """
    plus = "+" if sign else ""
    return f"{value:{plus}.2%}" if is_share(metric) else f"{value:{plus}.3f}"


def error(metric: str, score: Score) -> str:
    """The standard error, in points for shares; empty where there is none."""
    if score.stderr is None:
        return ""
    return f"{100 * score.stderr:.2f}" if is_share(metric) else f"{score.stderr:.3f}"


def interval_of(score: Score) -> tuple[float, float] | None:
    """Where the score of endlessly many such questions lies, 95 times in 100."""
    return None if score.stderr is None else (score.value - WIDTH * score.stderr, score.value + WIDTH * score.stderr)


def results_shown(evaluation: Evaluation) -> list[TaskResult]:
    """Groups, and the tasks that belong to none."""
    grouped = {member for group in evaluation.groups for member in group.members}
    return [*evaluation.groups, *(one for one in evaluation.tasks if one.task not in grouped)]


def change_rows(differences: Sequence[Difference]) -> list[list[str]]:
    """Rows under `CHANGES_HEADER`."""
    return [
        [
            one.task,
            one.metric,
            shown(one.metric, one.first),
            shown(one.metric, one.second),
            difference_text(one),
            one.verdict,
            f"{one.num_pairs:,}" if one.num_pairs else "not paired",
            f"{one.num_changed:,}" if one.num_pairs else "",
        ]
        for one in differences
    ]


def difference_text(one: Difference) -> str:
    """The difference and half its interval."""
    if one.stderr is None:
        return shown(one.metric, one.difference, sign=True)
    return f"{shown(one.metric, one.difference, sign=True)} ± {shown(one.metric, WIDTH * one.stderr)}"


def changes_note() -> str:
    """What the table of differences means."""
    return (
        f"second - first, paired by question; ± is a {LEVEL:.0%} interval, and ≈ says that it holds 0. Among many "
        "benchmarks one in twenty differs by chance."
    )


def landmark(one: TaskResult) -> Published | None:
    """The published score of a task, if it is of the metric shown."""
    found = published(one.task)
    return found if found is not None and one.main_metric.partition(",")[0] == found.metric else None


def card(evaluation: Evaluation) -> str:
    """The scores in Markdown, with what one must know to repeat them."""
    rows = []
    for one in results_shown(evaluation):
        metric = one.main_metric
        score, theirs = one.scores[metric], landmark(one)
        rows.append(
            [
                one.task, one.version, str(one.num_fewshot), f"{one.num_questions:,}", metric,
                shown(metric, score.value), error(metric, score),
                "" if theirs is None else f"{theirs.value:.1%}", "" if theirs is None else theirs.target,
            ]
        )  # fmt: skip
    header = ["benchmark", "version", "examples", "questions", "metric", "score", "± 1 s.e.", "GPT-3 175B", "target"]
    table = markdown_table(header, rows, right=["examples", "questions", "score", "± 1 s.e.", "GPT-3 175B", "target"])
    cited = [found for one in results_shown(evaluation) if (found := landmark(one)) is not None]
    sources = "\n".join(f"- {one.task}: {one.how}; {one.source}{f' ({one.note})' if one.note else ''}" for one in cited)
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    limit = evaluation.settings.get("limit")
    landmarks = f"GPT-3's scores are landmarks: other prompts, and as many examples as named.\n\n{sources}"
    return "\n\n".join(
        part
        for part in (
            f"# Scores of {inline_code(Path(evaluation.model).name)}",
            f"**Not to be compared:** only the first {limit} questions of each task were asked." if limit else "",
            table,
            landmarks if cited else "",
            f"{evaluation.created}; {versions}; weights {evaluation.fingerprint.get('weights', '')[:12]}.",
        )
        if part
    ) + "\n"  # fmt: skip
