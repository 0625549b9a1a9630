"""A program that rates pairs as a person would, through the same files: the answer of the higher reward is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mamba_slm.finetuning.rewards.rollout import Reward, Rollout
from mamba_slm.runs.preferences.rows import Pair, Rating
from mamba_slm.runs.preferences.store import PreferenceSet, new_id, now


def judge_pairs(
    preferences: PreferenceSet,
    reward: Reward,
    *,
    count_tokens: Callable[[str], int],
    fields_of: Callable[[Pair], Mapping[str, Any]] = lambda pair: {},
    limit: int | None = None,
) -> list[Rating]:
    """Rate every pair of a set that this reward has not rated yet; the rater is "reward:NAME".

    Args:
        count_tokens: of an answer, for rewards that look at its length.
        fields_of: what else the data said about the prompt of a pair; its "answer" is the right one.
        limit: rate at most so many.

    Raises:
        DataError: prompts lack what the reward needs.
        UsageError: a function of one's own failed.
    """
    rater = f"reward:{reward.name}"
    done = {rating.pair for rating in preferences.ratings() if rating.rater == rater}
    waiting = [pair for pair in preferences.pairs() if pair.id not in done][:limit]
    rollouts = [
        rollout_of(pair, side, fields_of(pair), count_tokens) for pair in waiting for side in range(len(pair.answers))
    ]
    reward.check(rollouts)
    scores = reward.score(rollouts)
    ratings = [
        Rating(
            id=new_id(), pair=pair.id, rater=rater, choice=preferred(first, second), swapped=False, time=now()
        )
        for pair, first, second in zip(waiting, scores[0::2], scores[1::2], strict=True)
    ]  # fmt: skip
    preferences.add_ratings(ratings)
    return ratings


def rollout_of(pair: Pair, side: int, fields: Mapping[str, Any], count_tokens: Callable[[str], int]) -> Rollout:
    """One answer of a pair as a reward sees it."""
    text, right = pair.answers[side].text, fields.get("answer")
    return Rollout(
        messages=pair.prompt,
        completion=text,
        num_tokens=count_tokens(text),
        finished=True,
        answer=None if right is None else str(right),
        fields=fields,
        origin=pair.origin,
    )


def preferred(first: float, second: float) -> str:
    """A name of `CHOICES`: the higher score wins, equal ones tie.

    >>> preferred(1.0, 0.0), preferred(0.5, 0.5)
    ('left', 'tie')
    """
    return "tie" if first == second else "left" if first > second else "right"
