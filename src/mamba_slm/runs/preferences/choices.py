"""What one can say about two answers shown side by side, and the key for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["first", "second", "tie", "both-bad"]
"""A choice about the answers as they are stored, however they were shown."""


@dataclass(frozen=True)
class Choice:
    """One possible answer of a rater."""

    key: str
    """What one presses in the terminal."""
    label: str
    """What the key means, for people."""
    side: Literal["left", "right"] | None = None
    """The side that was liked."""
    is_strong: bool = False
    """Much better, not just better."""


CHOICES = {
    "left-much": Choice("1", "A much", "left", True),
    "left": Choice("2", "A", "left"),
    "tie": Choice("3", "tie"),
    "right": Choice("4", "B", "right"),
    "right-much": Choice("5", "B much", "right", True),
    "both-bad": Choice("6", "both bad"),
    "skip": Choice("s", "skip"),
}
"""Name in the file → choice, in the order of the keys. A is what is shown left, or first."""


def outcome_of(choice: str, *, swapped: bool) -> Outcome | None:
    """What a choice says about the stored answers; None for skip.

    Args:
        choice: a name of `CHOICES`.
        swapped: whether the second answer was shown left.

    >>> outcome_of("left-much", swapped=True)
    'second'
    """
    if choice == "skip":
        return None
    side = CHOICES[choice].side
    if side is None:
        return "tie" if choice == "tie" else "both-bad"
    return "first" if (side == "left") != swapped else "second"
