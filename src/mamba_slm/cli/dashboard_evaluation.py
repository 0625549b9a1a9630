"""What scores mean and how two models differ, for the dashboard: by the code of `mamba-slm eval`, without torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_slm.evaluation.results import TaskResult

MOST_BYTES = 512 << 20
"""Of results that are compared for a page."""
UNLIKE_OURS = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, RecursionError, StopIteration)
"""What comes of fields of other kinds than we write."""


def scores_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The main score of each benchmark, with what is needed to read it.

    Args:
        summary: the fields of results.json; its samples are not needed.

    Returns: groups and tasks that belong to none, each followed by its members (`group` names theirs).

    Raises:
        DataError: it is not an evaluation.
    """
    from mamba_slm.core.errors import DataError
    from mamba_slm.evaluation.results import task_from

    try:
        groups = [task_from(one) for one in summary["groups"]]
        tasks = [task_from(one) for one in summary["tasks"]]
        members = {name: group.task for group in groups for name in group.members}
        rows = []
        for one in (*groups, *(task for task in tasks if task.task not in members)):
            rows.append(score_row(one, None))
            rows += [score_row(task, one.task) for task in tasks if members.get(task.task) == one.task]
        return rows
    except (KeyError, TypeError, AttributeError, StopIteration) as error:  # a task without a score has no main one
        raise DataError(f"not the results of mamba-slm eval: {error!r}") from error


def score_row(one: TaskResult, group: str | None) -> dict[str, Any]:
    """A row; shares lie between 0 and 1, the interval holds the true score 95 times in 100."""
    from mamba_slm.evaluation.scores.text import interval_of, is_share, landmark

    metric = one.main_metric
    score, theirs = one.scores[metric], landmark(one)
    return {
        "task": one.task,
        "group": group,
        "is_group": bool(one.members),
        "metric": metric,
        "is_share": is_share(metric),
        "higher_is_better": score.higher_is_better,
        "value": score.value,
        "stderr": score.stderr,
        "interval": interval_of(score),
        "questions": one.num_questions,
        "examples": one.num_fewshot,
        "note": one.note,
        "published": None if theirs is None else asdict(theirs),
    }


def differences_of(first: Path, second: Path) -> list[dict[str, Any]]:
    """The second results minus the first, paired by question, as `mamba-slm eval compare` has them.

    Returns: read once for each version of the files; not to be changed, the same list comes again.

    Raises:
        DataError: one cannot be read, is too long for a page, or they have no benchmark in common.
    """
    from mamba_slm.core.errors import DataError
    from mamba_slm.core.units import format_bytes
    from mamba_slm.dashboard.reading.facts import version_of

    for file in (first, second):
        if file.is_file() and file.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{file} has {format_bytes(file.stat().st_size)}, too much for a page",
                hint=f"mamba-slm eval compare {first.parent} {second.parent}",
            )
    return differences_in(first, second, version_of(first, second))


@functools.lru_cache(maxsize=32)
def differences_in(first: Path, second: Path, version: str) -> list[dict[str, Any]]:
    """The same for one version of the files."""
    from mamba_slm.core.errors import DataError
    from mamba_slm.evaluation.results import read_evaluation
    from mamba_slm.evaluation.scores.comparing import compare
    from mamba_slm.evaluation.scores.text import is_share

    try:
        found = compare(read_evaluation(first), read_evaluation(second))
    except UNLIKE_OURS as error:
        raise DataError(f"{first} and {second} cannot be compared: {error!r}") from error
    return [
        {**asdict(one), "interval": one.interval, "verdict": one.verdict, "is_share": is_share(one.metric)}
        for one in found
    ]
