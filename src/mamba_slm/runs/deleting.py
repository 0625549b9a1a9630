"""Take a run off the disk: never one that somebody owns, never half of it; and who was made from it is said."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import MambaSlmError, RunLockedError, UsageError
from mamba_slm.core.files import folder_bytes, fsync_folder
from mamba_slm.runs.evidence import read_evidence
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import RunLock, live_owner
from mamba_slm.runs.status import observed_state
from mamba_slm.runs.summary import flat_settings, has_begun


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """What deleting a run would take."""

    run: RunDirectory
    size_bytes: int
    checkpoints: int
    needed_by: tuple[str, ...]
    """Names of runs of the same home that were made from it; an adapter needs its base to be used at all."""


def deletion_of(run: RunDirectory, others: Sequence[RunDirectory]) -> Deletion:
    """What would go with a run.

    Args:
        others: runs that may have been made from it; the run itself does not count.
    """
    place = run.path.resolve()
    needed_by = [
        other.name
        for other in others
        if other.path.resolve() != place and any(path.is_relative_to(place) for path in paths_named_by(other))
    ]
    return Deletion(
        run=run,
        size_bytes=folder_bytes(run.path),
        checkpoints=len(run.checkpoints()),
        needed_by=tuple(needed_by),
    )


def paths_named_by(run: RunDirectory) -> Iterator[Path]:
    """What the settings of a run name, as far as it is there; settings that cannot be read name nothing."""
    try:
        evidence = read_evidence(run)
    except MambaSlmError:
        return
    base = Path(evidence.record.working_directory) if evidence.record else run.path.parent
    for value in flat_settings(evidence.config).values():
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and text:
                try:
                    path = (base / text).resolve()
                    is_there = path.exists()
                except (OSError, ValueError, RuntimeError):  # too long, with a NUL, links in a circle
                    continue
                if is_there:
                    yield path


def took_no_step(run: RunDirectory) -> bool:
    """Whether there is nothing in a run that anybody could miss: no step, no checkpoint, no result, nobody at work."""
    is_unused = not has_begun(run) and observed_state(run) != "done" and live_owner(run) is None
    return is_unused and not run.path.is_symlink()


def refuse(run: RunDirectory) -> None:
    """Say why a run cannot be deleted, before any other is.

    Raises:
        RunLockedError: a living process owns it.
        UsageError: it is a link; what it leads to stays.
    """
    if run.path.is_symlink():
        raise UsageError(f"{run.path} is a link to {os.readlink(run.path)}", hint=f"rm {run.path}")
    owner = live_owner(run)
    if owner is not None:
        raise RunLockedError(
            f"{run.path} is in use by {owner.describe()}", hint=f"stop it first: mamba-slm runs stop {run.path}"
        )


def delete_run(run: RunDirectory) -> None:
    """Delete a run's folder. A kill on the way leaves no half of a run: it loses its name first.

    Raises:
        RunLockedError: a living process owns it.
        UsageError: it is a link; what it leads to stays.
    """
    refuse(run)
    with RunLock(run, command="runs delete"):
        parent = run.path.resolve().parent
        around = Path(tempfile.mkdtemp(dir=parent, prefix=f".deleted.{run.name}."))
        os.rename(run.path, around / run.name)
        fsync_folder(parent)
    shutil.rmtree(around)
