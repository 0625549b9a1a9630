"""Kinds of personal data, and where in a text one was found."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Literal, get_args

Datum = Literal["email", "phone", "card", "iban", "ssn", "ip", "key", "secret"]
DATA: tuple[Datum, ...] = get_args(Datum)

STRONGEST_FIRST: tuple[Datum, ...] = ("key", "secret", "email", "iban", "card", "ssn", "ip", "phone")
"""Where two overlap, the one that is harder to be by chance stays: a card's digits may also look like a phone's."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """`text[start:end]` is a datum of this kind."""

    start: int
    """Of the first character."""

    end: int
    """After the last character."""

    kind: Datum
    """What it is."""


def without_overlaps(spans: list[Span]) -> list[Span]:
    """The spans in the order of the text; of two that overlap the stronger kind stays, then the longer, then the first.

    >>> without_overlaps([Span(0, 9, "phone"), Span(2, 18, "card"), Span(20, 22, "ip")])
    [Span(start=2, end=18, kind='card'), Span(start=20, end=22, kind='ip')]
    """
    if len(spans) < 2:
        return spans
    kept: list[Span] = []
    for span in sorted(spans, key=lambda one: (STRONGEST_FIRST.index(one.kind), one.start - one.end, one.start)):
        place = bisect.bisect_left(kept, span)
        is_free_before = place == 0 or kept[place - 1].end <= span.start
        if is_free_before and (place == len(kept) or span.end <= kept[place].start):
            kept.insert(place, span)
    return kept
