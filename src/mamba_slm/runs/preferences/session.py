"""One rater at work: which pair comes next, on which side each answer stands, and what happens at a choice.

The next pair is a function of what has been said so far, so a session can end at any moment and go on anywhere, in a
terminal or on a page. Some pairs come back with their sides exchanged: whoever presses the same key twice there does
not agree with himself.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.runs.preferences.choices import CHOICES
from mamba_slm.runs.preferences.rows import Answer, Pair, Rating
from mamba_slm.runs.preferences.store import PreferenceSet, new_id, now

REPEAT_DISTANCE = 5
"""So many other choices at least lie between a pair and its repetition."""


@dataclass(frozen=True)
class Shown:
    """A pair as the rater sees it."""

    pair: Pair
    swapped: bool
    """Whether the second answer stands left."""
    is_repeat: bool

    @property
    def left(self) -> Answer:
        """A, the answer that stands left or first."""
        return self.pair.answers[self.swapped]

    @property
    def right(self) -> Answer:
        """B, the other one."""
        return self.pair.answers[not self.swapped]


def next_shown(
    pairs: Sequence[Pair], ratings: Sequence[Rating], *, rater: str, seed: int, repeats: float
) -> Shown | None:
    """What this rater sees next; None when all is said. A pure function.

    Pairs come in an order drawn from the seed. In every two new pairs, the stored first answer stands left once and
    right once. When a share `repeats` of the rater's choices is due, the oldest one that was not skipped comes again.
    """
    mine = [rating for rating in ratings if rating.rater == rater]
    first = {rating.pair: rating for rating in reversed(mine) if not rating.is_repeat}
    again = {rating.pair for rating in mine if rating.is_repeat}
    known = {pair.id: pair for pair in pairs}

    decided = [rating for rating in mine if not rating.is_repeat and rating.choice != "skip" and rating.pair in known]
    if int(len(decided) * repeats) > len(again):
        recent = {rating.pair for rating in mine[-REPEAT_DISTANCE:]}
        for rating in decided:
            if rating.pair not in again and rating.pair not in recent:
                return Shown(known[rating.pair], not rating.swapped, True)

    left = [pair for pair in pairs if pair.id not in first]
    if not left:
        return None
    chosen = min(left, key=lambda pair: drawn(seed, rater, pair.id))
    number = len(first)
    starts_swapped = drawn(seed, rater, f"sides {number // 2}") % 2 == 1
    return Shown(chosen, starts_swapped ^ (number % 2 == 1), False)


def drawn(seed: int, rater: str, what: str) -> int:
    """A number of 64 bits that depends on all three."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{rater}\0{what}".encode()).digest()[:8], "big")


class RatingSession:
    """Shows pair after pair to one rater, and writes down what is chosen.

    Args:
        preferences: the set.
        rater: who rates; a name without meaning elsewhere.
        repeats: share of the pairs that come again, in [0, 1].
        clock: seconds, for how long a choice took.
    """

    def __init__(
        self,
        preferences: PreferenceSet,
        *,
        rater: str = "me",
        repeats: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not 0 <= repeats <= 1:
            raise ConfigError(f"the share of repeated pairs must be in 0 … 1, got {repeats}")
        if not rater:
            raise ConfigError("a rater needs a name")
        self.preferences, self.rater, self.repeats, self.clock = preferences, rater, repeats, clock
        self.pairs, self.ratings = preferences.pairs(), preferences.ratings()
        self.made = 0
        """Choices in this session, without what was taken back."""
        self._advance()

    def _advance(self) -> None:
        seed = self.preferences.seed
        self.shown = next_shown(self.pairs, self.ratings, rater=self.rater, seed=seed, repeats=self.repeats)
        self._since = self.clock()

    @property
    def num_rated(self) -> int:
        """Pairs that this rater has seen."""
        return len({rating.pair for rating in self.ratings if rating.rater == self.rater})

    def choose(self, choice: str, *, edited: str | None = None) -> Rating:
        """Write down a choice about what is shown, and show the next.

        Args:
            choice: a name of `CHOICES`.
            edited: the liked answer as it should be; needs a choice for one side.

        Raises:
            UsageError: nothing is shown, or something is edited that was not liked.
            DiskFullError: nothing was written, and the same pair is still shown.
        """
        if self.shown is None:
            raise UsageError("there is nothing left to rate")
        if choice not in CHOICES:
            raise ConfigError(f"there is no choice {choice!r}", hint=f"known: {', '.join(CHOICES)}")
        if edited is not None and CHOICES[choice].side is None:
            raise UsageError("only an answer that was liked can be edited")
        rating = Rating(
            id=new_id(),
            pair=self.shown.pair.id,
            rater=self.rater,
            choice=choice,
            swapped=self.shown.swapped,
            is_repeat=self.shown.is_repeat,
            edited=edited,
            seconds=round(max(0.0, self.clock() - self._since), 2),
            time=now(),
        )
        self.preferences.add_ratings([rating])
        self.ratings.append(rating)
        self.made += 1
        self._advance()
        return rating

    def undo(self) -> Rating | None:
        """Take back this rater's last choice, also of an earlier session, and show its pair again; None: no choice."""
        mine = [rating for rating in self.ratings if rating.rater == self.rater]
        if not mine:
            return None
        self.preferences.take_back(mine[-1])
        self.ratings.remove(mine[-1])
        self.made -= 1
        self._advance()
        return mine[-1]
