"""What an alignment changed, example by example: from columns of both measurements to `runs.before_after`. No torch.

Columns hold one number per held-out example, in the same order before and after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mamba_slm.core.intervals import Share
from mamba_slm.runs.before_after import Change, mean_change, share_change

BETA = 0.1
"""Of the loss that is reported, whatever was trained with, so that runs compare."""
Columns = Mapping[str, Sequence[float]]


def changes_of(before: Columns, after: Columns) -> list[Change]:
    """One change for each measure that the columns allow.

    Args:
        before, after: `chosen` and `rejected` (log p of the answers of a pair, with `chosen_tokens` and
            `rejected_tokens`; without these the scores of a reward model), or `log_prob` and `is_good` of judged
            answers, or `reward` of prompts.

    Raises:
        DataError: different numbers of examples on the two sides.
    """
    if "chosen_tokens" in before:
        return pair_changes(before, after)
    if "chosen" in before:
        return [
            share_change("preferred answer scored higher", wins(before), wins(after)),
            mean_change("margin of scores", margins(before), margins(after), unit=""),
        ]
    if "log_prob" in before:
        return [
            judged_change(before, after, is_good=is_good)
            for is_good in (True, False)
            if is_good in map(bool, before["is_good"])
        ]
    return [mean_change("reward", before["reward"], after["reward"], unit="")] if "reward" in before else []


def judged_change(before: Columns, after: Columns, *, is_good: bool) -> Change:
    """Log p of the answers that were judged good, or bad."""
    then, now = (
        [value for value, good in zip(side["log_prob"], side["is_good"], strict=True) if bool(good) is is_good]
        for side in (before, after)
    )
    label, better = ("good", "higher") if is_good else ("bad", "neither")
    return mean_change(f"log p of {label} answers, per token", then, now, unit="nats", better=better)


def pair_changes(before: Columns, after: Columns) -> list[Change]:
    """Of a model that answers: which answer is likelier, which one gained more, and what became of good answers."""
    then, now = per_token(before), per_token(after)
    moved = [
        (a - b) - (c - d)
        for a, b, c, d in zip(after["chosen"], before["chosen"], after["rejected"], before["rejected"], strict=True)
    ]
    gained = Share(sum(each > 0 for each in moved), len(moved))
    losses = [math.log1p(math.exp(-BETA * each)) if each * BETA > -30 else -BETA * each for each in moved]
    low, high = gained.interval
    return [
        share_change("preferred answer likelier, per token", wins(then), wins(now)),
        Change(
            name="preferred answer gained more (50% by chance)",
            unit="share",
            better="higher",
            count=gained.count,
            before=0.5,
            after=gained.value or 0.0,
            difference=(low - 0.5, high - 0.5),
            after_interval=gained.interval,
        ),
        mean_change(f"loss of DPO, β {BETA:g}", [math.log(2)] * len(losses), losses, unit="nats", better="lower"),
        mean_change("margin of log p, per token", margins(then), margins(now), unit="nats"),
        mean_change("log p of preferred answers, per token", then["chosen"], now["chosen"], unit="nats"),
    ]


def per_token(columns: Columns) -> dict[str, list[float]]:
    """Both columns of log p divided by the tokens they are sums over."""
    return {
        name: [value / max(1.0, count) for value, count in zip(columns[name], columns[f"{name}_tokens"], strict=True)]
        for name in ("chosen", "rejected")
    }


def wins(columns: Columns) -> list[bool]:
    """Whether the preferred answer is ahead, pair by pair."""
    return [margin > 0 for margin in margins(columns)]


def margins(columns: Columns) -> list[float]:
    """How far the preferred answer is ahead."""
    return [chosen - rejected for chosen, rejected in zip(columns["chosen"], columns["rejected"], strict=True)]
