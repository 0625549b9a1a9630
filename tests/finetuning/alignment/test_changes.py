"""Promises of what is said to have changed in an alignment."""

import math

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.finetuning.alignment.changes import changes_of

TOKENS = {"chosen_tokens": [2.0, 4.0], "rejected_tokens": [2.0, 1.0]}
BEFORE = {"chosen": [-4.0, -8.0], "rejected": [-2.0, -1.0], **TOKENS}


def named(changes):
    return {change.name.split(",")[0].split(" (")[0]: change for change in changes}


def test_pairs_are_compared_per_token_and_with_what_they_were():
    after = {**BEFORE, "chosen": [-1.0, -8.5], "rejected": [-3.0, -2.0]}
    found = named(changes_of(BEFORE, after))
    likelier = found["preferred answer likelier"]
    assert (likelier.before, likelier.after, likelier.count) == (0.0, 0.5, 2)  # -2.125 against -2 per token
    gained = found["preferred answer gained more"]
    assert (gained.before, gained.after) == (0.5, 1.0)  # +3 and -1, -0.5 and -1
    loss = found["loss of DPO"]
    assert loss.before == pytest.approx(math.log(2))
    assert loss.after == pytest.approx(sum(math.log(1 + math.exp(-0.1 * each)) for each in (4.0, 0.5)) / 2)
    assert found["log p of preferred answers"].after == pytest.approx((-0.5 - 2.125) / 2)
    assert found["margin of log p"].before == pytest.approx((-1.0 - 1.0) / 2)


def test_nothing_moved_is_no_change():
    for change in changes_of(BEFORE, BEFORE):
        if "gained" not in change.name:  # a tie is not won
            assert change.after == pytest.approx(change.before)
            assert change.is_noise


def test_a_collapse_has_a_finite_loss():
    after = {**BEFORE, "chosen": [-9e5, -9e5]}
    assert named(changes_of(BEFORE, after))["loss of DPO"].after == pytest.approx(9e4, rel=1e-3)


def test_reward_models_judged_answers_and_rewards_have_measures_of_their_own():
    scores = changes_of({"chosen": [0.0, 1.0], "rejected": [1.0, 0.0]}, {"chosen": [2.0, 1.0], "rejected": [1.0, 0.0]})
    assert [(change.before, change.after) for change in scores] == [(0.5, 1.0), (0.0, 1.0)]
    judged = {"log_prob": [-1.0, -2.0, -3.0], "is_good": [1.0, 0.0, 1.0]}
    good, bad = changes_of(judged, {**judged, "log_prob": [-0.5, -4.0, -2.5]})
    assert (good.before, good.after, bad.before, bad.after) == (-2.0, -1.5, -2.0, -4.0)
    (reward,) = changes_of({"reward": [0.0, 0.5]}, {"reward": [1.0, 1.0]})
    assert (reward.before, reward.after, reward.better) == (0.25, 1.0, "higher")
    assert changes_of({}, {}) == []


def test_sides_of_different_sizes_are_refused():
    with pytest.raises(DataError, match="2 examples before and 1 after"):
        changes_of({"reward": [0.0, 0.5]}, {"reward": [1.0]})
