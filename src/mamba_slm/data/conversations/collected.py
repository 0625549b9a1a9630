"""Preferences that `mamba-slm prefs` collected, as records to learn from: `prefs:NAME` instead of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.conversations.example import Problem
from mamba_slm.runs.preferences.store import FOLDER, PreferenceSet
from mamba_slm.runs.preferences.verdicts import labelled_rows, preference_rows, verdicts

PREFIX = "prefs:"


def is_collected(source: object) -> bool:
    """Whether a source names a set of preferences."""
    return isinstance(source, str) and source.startswith(PREFIX)


def collected_records(source: str, *, labelled: bool) -> Iterator[tuple[str, dict[str, Any]] | Problem]:
    """The pairs of a set in the home of runs about which its raters agree, as `prefs export` writes them.

    Args:
        source: `prefs:NAME` in the home of runs, or `prefs:HOME/preferences/NAME`.
        labelled: single answers, each good or bad, instead of pairs.

    Raises:
        UnknownNameError: no such set; names the nearest.
        DataError: a damaged line; names it.
    """
    preferences = named_set(source.removeprefix(PREFIX))
    found = verdicts(preferences.pairs(), preferences.ratings())
    rows, left_out = (labelled_rows if labelled else preference_rows)(found)
    for number, row in enumerate(rows, start=1):
        yield f"{source}, row {number}", row
    for reason, count in left_out.items():
        yield from (Problem(reason, source, "the pair is left out") for _ in range(count))


def named_set(name: str) -> PreferenceSet:
    """The set of a name, or of a path: in the folder `preferences` of any home.

    Raises: see `PreferenceSet.open`; ConfigError: a path that is no set's.
    """
    path = Path(name)
    if len(path.parts) == 1:
        return PreferenceSet.open(name)
    if path.parent.name != FOLDER:
        raise ConfigError(f"{name} is no set of preferences", hint=f"write it as {PREFIX}HOME/{FOLDER}/NAME")
    return PreferenceSet.open(path.name, path.parents[1])
