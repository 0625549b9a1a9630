"""Runs of characters of a set around a place, whatever their length, at the cost of their length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

FIRST_LOOK = 64


def run_start(text: str, place: int, characters: str) -> int:
    """Where the run that ends at `place` begins; `place` itself where the character before it is not in the set.

    >>> run_start("tel. 555-0187", 9, "0123456789-")
    5
    """
    size = FIRST_LOOK
    while True:
        start = max(0, place - size)
        rest = len(text[start:place].rstrip(characters))
        if rest or not start:
            return start + rest
        size *= 4


def run_end(text: str, place: int, characters: str) -> int:
    """Where the run that begins at `place` ends.

    >>> run_end("tel. 555-0187 x", 5, "0123456789-")
    13
    """
    size = FIRST_LOOK
    while True:
        piece = text[place : place + size]
        rest = len(piece.lstrip(characters))
        if rest or place + size >= len(text):
            return place + len(piece) - rest
        size *= 4


def runs(text: str, places: Sequence[int], characters: str) -> Iterator[tuple[int, int]]:
    """The runs that the places are in, each once; places ascend and each is the end of a character of the set."""
    done = -1
    for place in places:
        if place > done:
            start = run_start(text, place, characters)
            done = run_end(text, place, characters)
            yield start, done
