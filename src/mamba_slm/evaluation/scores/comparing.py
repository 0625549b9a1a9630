"""Two models on the same questions: differences paired by question, with intervals.

The questions that both models were asked are easy or hard for both, so the difference of two scores is known far better
than either score. Source: Miller, arXiv:2411.00640, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

from mamba_slm.core.errors import CheckFailedError, DataError
from mamba_slm.evaluation.results import Evaluation, Score, TaskResult

LEVEL = 0.95
WIDTH = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""Standard errors on each side of an interval that holds the true difference 95 times in 100."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score of two models."""

    task: str
    metric: str
    first: float
    second: float
    difference: float
    """second - first, of the paired questions where there are any."""
    stderr: float | None
    """Of the difference; None where nothing says how sure it is."""
    num_pairs: int
    """Questions that both were asked with the same prompt; 0: the scores were compared as a whole."""
    num_changed: int = 0
    """Of them, those with another score."""
    higher_is_better: bool = True

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the true difference lies, 95 times in 100."""
        if self.stderr is None:
            return None
        return self.difference - WIDTH * self.stderr, self.difference + WIDTH * self.stderr

    @property
    def is_noise(self) -> bool:
        """Whether no difference at all would be no surprise."""
        return self.interval is None or self.interval[0] <= 0.0 <= self.interval[1]

    @property
    def verdict(self) -> str:
        """≈, better or worse: of the second."""
        if self.is_noise:
            return "≈"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


def compare(first: Evaluation, second: Evaluation) -> list[Difference]:
    """The main scores of the tasks and groups that both have, groups first.

    Raises:
        DataError: they have no task in common.
    """
    found = []
    for mine in (*first.groups, *first.tasks):
        theirs = second.find(mine.task)
        if theirs is not None and mine.main_metric in theirs.scores:
            found.append(difference(first, second, mine, theirs))
    if not found:
        names = [" and ".join(one.task for one in side.tasks) or "nothing" for side in (first, second)]
        raise DataError(
            f"the results have no task in common: {names[0]} against {names[1]}",
            hint="evaluate both models with the same --benchmarks",
        )
    return found


def difference(first: Evaluation, second: Evaluation, mine: TaskResult, theirs: TaskResult) -> Difference:
    """The main score of one task, paired by question where both kept their samples."""
    metric = mine.main_metric
    a, b = mine.scores[metric], theirs.scores[metric]
    pairs = [pair for task in members(mine) for pair in first.paired(second, task, metric)]
    if pairs:
        gaps = [after - before for before, after in pairs]
        return Difference(
            task=mine.task,
            metric=metric,
            first=fmean(before for before, _ in pairs),
            second=fmean(after for _, after in pairs),
            difference=fmean(gaps),
            stderr=math.sqrt(variance(gaps) / len(gaps)) if len(gaps) > 1 else None,
            num_pairs=len(pairs),
            num_changed=sum(gap != 0 for gap in gaps),
            higher_is_better=a.higher_is_better,
        )
    return Difference(
        task=mine.task,
        metric=metric,
        first=a.value,
        second=b.value,
        difference=b.value - a.value,
        stderr=unpaired_error(a, b),
        num_pairs=0,
        higher_is_better=a.higher_is_better,
    )


def members(result: TaskResult) -> Sequence[str]:
    """The tasks whose questions make a result."""
    return result.members or (result.task,)


def unpaired_error(a: Score, b: Score) -> float | None:
    """Standard error of the difference of two scores of different questions."""
    return None if a.stderr is None or b.stderr is None else math.hypot(a.stderr, b.stderr)


def require_no_loss(differences: Sequence[Difference], limit: float) -> None:
    """Raise unless every difference is at least `limit`, a share such as -0.005; of tasks where less is better, at most
    its opposite.

    Raises:
        CheckFailedError: names the tasks and by how much.
    """
    lost = [one for one in differences if (one.difference if one.higher_is_better else -one.difference) < limit]
    if lost:
        what = ", ".join(f"{one.task} {one.difference:+.2%}{' (within noise)' if one.is_noise else ''}" for one in lost)
        raise CheckFailedError(
            f"worse than the baseline by more than {-limit:.2%}: {what}",
            hint="mamba-slm eval compare BASELINE RESULTS shows every task with its interval",
        )
