"""Preferences that `mamba-slm prefs` collected, as records to learn from: `prefs:NAME` instead of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mamba_slm.data.conversations.example import Problem
from mamba_slm.runs.preferences.store import PreferenceSet
from mamba_slm.runs.preferences.verdicts import labelled_rows, preference_rows, verdicts

PREFIX = "prefs:"


def is_collected(source: object) -> bool:
    """Whether a source names a set of preferences."""
    return isinstance(source, str) and source.startswith(PREFIX)


def collected_records(source: str, *, labelled: bool) -> Iterator[tuple[str, dict[str, Any]] | Problem]:
    """The pairs of a set in the home of runs about which its raters agree, as `prefs export` writes them.

    Args:
        source: `prefs:NAME`.
        labelled: single answers, each good or bad, instead of pairs.

    Raises:
        UnknownNameError: no such set; names the nearest.
        DataError: a damaged line; names it.
    """
    preferences = PreferenceSet.open(source.removeprefix(PREFIX))
    found = verdicts(preferences.pairs(), preferences.ratings())
    rows, left_out = (labelled_rows if labelled else preference_rows)(found)
    for number, row in enumerate(rows, start=1):
        yield f"{source}, row {number}", row
    for reason, count in left_out.items():
        yield from (Problem(reason, source, "the pair is left out") for _ in range(count))
