"""What the ratings of a set say, and how far they can be trusted."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mamba_slm.core.intervals import Share
from mamba_slm.runs.preferences.choices import CHOICES, Outcome
from mamba_slm.runs.preferences.rows import Pair, Rating


@dataclass(frozen=True)
class Duel:
    """Two models against each other."""

    models: tuple[str, str]
    wins: Share
    """Of the first model, among the pairs in which one of the two was better."""
    ties: int
    both_bad: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of one set, each pair counted once for each rater, unless it says otherwise."""

    pairs: int
    ratings: int
    """Choices in all, repetitions and skips included."""
    choices: dict[str, int]
    """Name of `CHOICES` → how often, repetitions left out."""
    duels: tuple[Duel, ...]
    self_agreement: Share
    """Repeated pairs about which the rater said the same as before, with the sides exchanged."""
    rater_agreement: Share
    """Pairs about which two raters said the same, for every two raters."""
    left: Share
    """Choices for the left side among those for a side; 50% where the side plays no part."""
    longer: Share
    """Choices for the longer answer among those for a side, where the lengths differ."""
    seconds: float | None
    """Median time for a choice."""

    def as_json(self) -> dict[str, Any]:
        """All of it for programs."""
        shares = ("self_agreement", "rater_agreement", "left", "longer")
        return {
            "pairs": self.pairs,
            "ratings": self.ratings,
            "choices": self.choices,
            "duels": [
                {"models": list(duel.models), "wins": duel.wins.as_json(), "ties": duel.ties, "both_bad": duel.both_bad}
                for duel in self.duels
            ],
            **{name: getattr(self, name).as_json() for name in shares},
            "seconds": self.seconds,
        }


def measure(pairs: Sequence[Pair], ratings: Sequence[Rating]) -> Statistics:
    """The statistics of a set. Ratings of pairs that are not there do not count."""
    known = {pair.id: pair for pair in pairs}
    ratings = [rating for rating in ratings if rating.pair in known]
    first = {(rating.rater, rating.pair): rating for rating in reversed(ratings) if not rating.is_repeat}
    said: dict[tuple[str, str], Outcome] = {}
    for key, rating in first.items():
        if (outcome := rating.outcome) is not None:
            said[key] = outcome

    repeated = [
        (said[key], rating.outcome)
        for rating in ratings
        if rating.is_repeat and (key := (rating.rater, rating.pair)) in said and rating.outcome is not None
    ]
    by_pair: dict[str, list[Outcome]] = {}
    for (_, pair), outcome in said.items():
        by_pair.setdefault(pair, []).append(outcome)
    two_raters = [(one, other) for outcomes in by_pair.values() for one, other in combinations(outcomes, 2)]
    # imported and computed ratings were not looked at: they say nothing about the sides
    sides = [side for rating in ratings if rating.seconds is not None and (side := CHOICES[rating.choice].side)]
    lengths = [
        (len(known[pair].answers[0].text), len(known[pair].answers[1].text), outcome == "first")
        for (_, pair), outcome in said.items()
        if outcome in ("first", "second")
    ]
    lengths = [(first, second, won) for first, second, won in lengths if first != second]
    times = [rating.seconds for rating in ratings if rating.seconds is not None]
    return Statistics(
        pairs=len(pairs),
        ratings=len(ratings),
        choices=dict(Counter(rating.choice for rating in first.values())),
        duels=duels(known, [(known[pair], outcome) for (_, pair), outcome in said.items()]),
        self_agreement=Share(sum(before == after for before, after in repeated), len(repeated)),
        rater_agreement=Share(sum(one == other for one, other in two_raters), len(two_raters)),
        left=Share(sides.count("left"), len(sides)),
        longer=Share(sum((first > second) == won for first, second, won in lengths), len(lengths)),
        seconds=round(statistics.median(times), 2) if times else None,
    )


def duels(known: dict[str, Pair], said: Sequence[tuple[Pair, Outcome]]) -> tuple[Duel, ...]:
    """One for every two different models, in the order in which they first meet."""
    order = list(dict.fromkeys(answer.model for pair in known.values() for answer in pair.answers))
    results: dict[tuple[str, str], Counter[str]] = {}
    for pair, outcome in said:
        first, second = (answer.model for answer in pair.answers)
        if first == second:
            continue
        is_turned = order.index(first) > order.index(second)
        won = {"first": "second", "second": "first"}.get(outcome, outcome) if is_turned else outcome
        models = (second, first) if is_turned else (first, second)
        results.setdefault(models, Counter())[won] += 1
    return tuple(
        Duel(models, Share(found["first"], found["first"] + found["second"]), found["tie"], found["both-bad"])
        for models, found in results.items()
    )


def remarks(found: Statistics) -> list[str]:
    """What a reader should not overlook."""
    lines = [f"{duel.models[0]} and {duel.models[1]}: no difference that chance does not explain"
             for duel in found.duels if duel.wins.count and not duel.wins.excludes(0.5)]  # fmt: skip
    if is_swayed(found.left):
        lines.append("the side an answer stood on played a part; sides are exchanged evenly, so no model gains by it")
    if is_swayed(found.longer):
        which = "longer" if (found.longer.value or 0) > 0.5 else "shorter"
        lines.append(f"{which} answers were preferred: a model may learn the length instead of what makes it better")
    return lines


def is_swayed(share: Share) -> bool:
    """Whether a share is not 50%, as far as one can tell."""
    return share.count > 0 and share.excludes(0.5)
