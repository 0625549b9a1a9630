"""Differences are paired by question, and what is within noise is called so."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.scores.evaluations import evaluation, samples
from mamba_slm.core.errors import CheckFailedError, DataError
from mamba_slm.evaluation.results import Score, TaskResult
from mamba_slm.evaluation.scores.comparing import compare, require_no_loss


def test_a_paired_difference_is_known_better_than_two_scores():
    before = [1, 0] * 50
    after = [*before[:96], 1, 1, 1, 1]
    (found,) = compare(evaluation(piqa=before), evaluation(piqa=after))
    gaps = np.array(after) - np.array(before)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.stderr == pytest.approx(gaps.std(ddof=1) / math.sqrt(100))
    assert found.stderr < 0.05 / 2  # each score alone: sqrt(0.25 / 100)
    assert (found.num_pairs, found.num_changed) == (100, 2)


def test_one_changed_question_of_many_is_noise_and_many_are_not():
    before = [0] * 200
    (noise,) = compare(evaluation(piqa=before), evaluation(piqa=[1] + [0] * 199))
    (better,) = compare(evaluation(piqa=before), evaluation(piqa=[1] * 20 + [0] * 180))
    (worse,) = compare(evaluation(piqa=[1] * 20 + [0] * 180), evaluation(piqa=before))
    assert (noise.verdict, better.verdict, worse.verdict) == ("≈", "better", "worse")


def test_the_interval_holds_the_true_difference_about_95_times_in_100():
    random, held, n = np.random.default_rng(0), 0, 400
    for _ in range(300):
        hard = random.random(n)
        first, second = (hard < 0.5).astype(int), (np.clip(hard - 0.05 * random.random(n), 0, 1) < 0.5).astype(int)
        (found,) = compare(evaluation(t=list(first)), evaluation(t=list(second)))
        low, high = found.interval
        held += low <= 0.025 <= high
    assert 0.90 <= held / 300 <= 0.99


def test_other_prompts_are_not_paired():
    first, second = evaluation(piqa=[1, 0, 1]), evaluation(piqa=[1, 1, 1])
    second = replace(second, samples={"piqa": samples([1, 1, 1], prompt="other")})
    (found,) = compare(first, second)
    assert found.num_pairs == 0
    assert found.difference == pytest.approx(1 / 3)
    assert found.stderr == pytest.approx(math.hypot(0.01, 0.01))


def test_a_group_is_compared_by_the_questions_of_its_members():
    group = TaskResult(
        task="mmlu", version="2", num_fewshot=5, num_questions=4, scores={"acc": Score(value=0.5)}, members=("a", "b")
    )
    first = evaluation(groups=[group], a=[1, 0], b=[0, 1])
    found = compare(first, evaluation(groups=[group], a=[1, 1], b=[0, 1]))
    assert [one.task for one in found] == ["mmlu", "a", "b"]
    assert found[0].num_pairs == 4 and found[0].difference == pytest.approx(0.25)


def test_results_without_a_common_task_are_refused():
    with pytest.raises(DataError, match="no task in common: piqa against boolq"):
        compare(evaluation(piqa=[1]), evaluation(boolq=[1]))


def test_a_loss_beyond_the_limit_fails_and_names_the_task():
    changes = compare(evaluation(piqa=[1] * 100, boolq=[1] * 100), evaluation(piqa=[1] * 98 + [0] * 2, boolq=[1] * 100))
    require_no_loss(changes, -0.02)
    with pytest.raises(CheckFailedError, match=r"piqa -2\.00%") as failed:
        require_no_loss(changes, -0.01)
    assert "boolq" not in failed.value.message and "compare" in failed.value.hint


def test_of_a_score_where_less_is_better_a_rise_is_a_loss():
    def perplexity(value):
        one = evaluation(wikitext=[0])
        task = replace(one.tasks[0], scores={"perplexity": Score(value=value, stderr=0.1, higher_is_better=False)})
        return replace(one, tasks=(task,), samples={})

    (found,) = compare(perplexity(10.0), perplexity(12.0))
    assert found.verdict == "worse"
    with pytest.raises(CheckFailedError):
        require_no_loss([found], -0.5)
