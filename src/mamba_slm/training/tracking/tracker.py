"""What every tracker is told, and what it knows about the run. Imports nothing of theirs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.runs.evidence import read_json_object

PROJECT = "mamba-slm"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run as trackers see it."""

    folder: Path
    """The run directory."""

    name: str
    id: str
    """Of the run in every tracker; drawn once, so that a resumed run continues the same one."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings, without secrets and names of home folders."""

    logged_step: int = 0
    """The last step that is known to have been tracked."""


class Tracker:
    """One dashboard. Values come with rising steps; steps before `first_step` are already there and do not come."""

    name = ""

    def open(self, run: TrackedRun, *, step: int) -> str:
        """Begin, or continue the run at an earlier start of it.

        Args:
            step: taken so far; larger than 0 for a run that is resumed.

        Returns: where the curves go, and how to see them, in one line.

        Raises:
            MissingDependencyError: the package is not installed.
        """
        raise NotImplementedError

    first_step: int = 0
    """Steps from here on are wanted; set by `open`."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Points of curves, by name."""
        raise NotImplementedError

    def log_histogram(self, name: str, counts: Sequence[float], edges: Sequence[float], *, step: int) -> None:
        """A distribution: `counts[i]` values between `edges[i]` and `edges[i + 1]`. A tracker may not show any."""

    def flush(self) -> None:
        """Bring to the disk what can be brought there now."""

    def close(self, *, ended_well: bool) -> None:
        """End; called once, also when an error ended the run."""


def after(last: int, step: int) -> int:
    """The first step that a tracker lacks, which has those up to `last`, of a run that goes on after `step`.

    >>> after(0, 0), after(8, 8), after(11, 8)
    (0, 8, 12)
    """
    return last + 1 if last > step else step  # of `step` itself only its validation can still come


def identify(folder: Path, name: str, settings: Mapping[str, Any]) -> TrackedRun:
    """The run with the id that it has had since its first start, kept in trackers.json.

    Raises:
        DataError: trackers.json is damaged.
    """
    file = folder / "trackers.json"
    if not file.is_file():
        run = TrackedRun(folder=folder, name=name, id=secrets.token_hex(4), settings=settings)
        remember(run, step=0)
        return run
    content = read_json_object(file)
    if not isinstance(content.get("id"), str) or not isinstance(content.get("logged_step"), int):
        raise DataError(f"{file} has no id and step", hint="delete it; trackers then begin a new run")
    return TrackedRun(folder=folder, name=name, id=content["id"], settings=settings, logged_step=content["logged_step"])


def remember(run: TrackedRun, *, step: int) -> None:
    """Write down that steps up to this one were tracked."""
    content = {"format_version": FORMAT_VERSION, "id": run.id, "logged_step": max(step, run.logged_step)}
    write_json_atomic(run.folder / "trackers.json", content)
