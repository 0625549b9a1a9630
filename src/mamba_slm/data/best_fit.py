"""Best-fit-decreasing packing of millions of lengths, computed on their histogram.

Pieces are taken from the longest to the shortest; each goes into the fullest row that still has room for it. Rows with
the same content are kept as one group, so that the cost depends on how many different lengths there are and not on how
many pieces. It is for cutting fewer documents than laying them end to end: Ding et al., "Fewer Truncations Improve
Language Modeling", ICML 2024.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What each row of a group holds of one length.

    Row t, counted as in `first_row`, holds the pieces `first_piece` + (t - `first_row`) × `pieces` … of that length.
    """

    length: int
    """Length of the pieces."""

    pieces: int
    """How many of them each row holds."""

    first_piece: int
    """The first of them, counted among the pieces of this length."""

    first_row: int
    """The row that holds it, counted from where its group was begun."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows with pieces of the same lengths."""

    first_row: int
    """The first of them, counted from where the group was begun: a part that was split off begins later."""

    rows: int
    """How many they are."""

    slots: tuple[Slot, ...]
    """What each of them holds, the longest pieces first."""

    space: int
    """What each of them has left over."""


def best_fit(counts: np.ndarray, row_length: int) -> list[Group]:
    """Pack `counts[length]` pieces of each length into rows; the rows with the least space left come first.

    >>> [(g.rows, g.space, [(s.length, s.pieces) for s in g.slots]) for g in best_fit(np.array([0, 0, 2, 3, 1]), 5)]
    [(2, 0, [(3, 1), (2, 1)]), (1, 1, [(4, 1)]), (1, 2, [(3, 1)])]

    Args:
        counts: [row_length] or shorter; the number of pieces by length, none of length 0.
        row_length: room in a row, more than any length.
    """
    assert len(counts) <= row_length and (len(counts) == 0 or counts[0] == 0), "pieces are shorter than a row"
    by_space: dict[int, list[Group]] = {}
    spaces: list[int] = []  # the keys of by_space, ascending

    def put(group: Group) -> None:
        if group.space not in by_space:
            bisect.insort(spaces, group.space)
            by_space[group.space] = []
        by_space[group.space].append(group)

    for length in np.flatnonzero(counts)[::-1].tolist():
        left, piece = int(counts[length]), 0
        while left:
            place = bisect.bisect_left(spaces, length)
            if place == len(spaces):
                group = Group(first_row=0, rows=left, slots=(), space=row_length)
            else:
                space = spaces[place]
                group = by_space[space].pop()
                if not by_space[space]:
                    del by_space[space], spaces[place]
            each = group.space // length
            rows = min(group.rows, left // each)
            if rows == 0:  # fewer pieces than one row would take
                rows, each = 1, left
            slot = Slot(length=length, pieces=each, first_piece=piece, first_row=group.first_row)
            put(replace(group, rows=rows, slots=(*group.slots, slot), space=group.space - each * length))
            if group.slots and rows < group.rows:
                put(replace(group, first_row=group.first_row + rows, rows=group.rows - rows))
            left -= rows * each
            piece += rows * each
    return [group for space in spaces for group in by_space[space]]
