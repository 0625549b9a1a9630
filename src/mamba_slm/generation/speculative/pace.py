"""How much to guess next: a wrong guess costs reading it, and guesses go wrong in runs."""

from __future__ import annotations

LONGEST_REST = 15
"""Tokens made without a guess after several readings of which no guess was right."""


class Pace:
    """Twice as many guesses after all were right, one more than were right otherwise; a rest after none was.

    >>> pace = Pace(8)
    >>> pace.told(guessed=8, right=2)
    >>> pace.ask()
    3
    >>> pace.told(guessed=3, right=3)
    >>> pace.ask()
    6
    """

    def __init__(self, most: int):
        self._most = self._next = most
        self._failures = self._rest = 0

    def ask(self) -> int:
        """Guesses to ask for now; called once per reading."""
        if self._rest:
            self._rest -= 1
            return 0
        return self._next

    def told(self, *, guessed: int, right: int) -> None:
        """How the last guesses went."""
        if guessed == 0:
            return
        if right == 0:
            self._failures += 1
            self._rest = min(2**self._failures - 1, LONGEST_REST)
        else:
            self._failures = 0
        self._next = min(self._most, 2 * guessed if right == guessed else right + 1)
