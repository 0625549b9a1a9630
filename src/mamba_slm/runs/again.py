"""How to go on with a run that was interrupted: the recorded command, and where to start it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import RunLockedError, UsageError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import live_owner
from mamba_slm.runs.record import read_record
from mamba_slm.runs.redact import HIDDEN
from mamba_slm.runs.status import read_status

PROGRAM = "mamba-slm"
CONTINUED_BY_REPEATING = ("quickstart",)
"""Kinds of runs whose command continues by itself; the others take `--resume RUN`."""


@dataclass(frozen=True)
class ResumeCommand:
    """What to run and where."""

    words: tuple[str, ...]
    """Begins with `mamba-slm`."""

    folder: Path
    """Where relative paths of the command begin."""

    def __str__(self) -> str:
        """For a shell; with `cd` when it must start elsewhere."""
        command = shlex.join(self.words)
        return command if self.folder == Path.cwd() else f"cd {shlex.quote(str(self.folder))} && {command}"


def resume_command(run: str | os.PathLike[str]) -> ResumeCommand:
    """The command that continues the run.

    Raises:
        RunLockedError: it is running.
        UsageError: it is finished, its command was not recorded, is not one of ours, or held a secret.
        DataError: its record is missing or damaged.
    """
    directory = RunDirectory(Path(run))
    owner = live_owner(directory)
    if owner is not None:
        raise RunLockedError(
            f"{directory.path} is running: {owner.describe()}", hint=f"watch it: mamba-slm runs show {directory.path}"
        )
    status = read_status(directory.status_file)
    if status is not None and status.state == "done":
        raise UsageError(f"{directory.path} is finished", hint=f"see its report: mamba-slm report {directory.path}")
    record = read_record(directory.record_file)
    words = list(record.command)
    if len(words) < 2 or words[0] != PROGRAM or words[1].startswith("-"):
        raise UsageError(
            f"{directory.record_file} holds no mamba-slm command (found: {shlex.join(words) or 'none'})",
            hint=f"start it by hand: mamba-slm train --resume {directory.path}",
        )
    if any(HIDDEN in word for word in words):
        raise UsageError(
            f"the recorded command held a secret, which was not stored: {shlex.join(words)}",
            hint="type it again with the secret, adding --resume " + str(directory.path),
        )
    if record.kind not in CONTINUED_BY_REPEATING:
        words = [*without_resume(words), "--resume", str(directory.path.resolve())]
    return ResumeCommand(tuple(words), Path(record.working_directory or Path.cwd()))


def without_resume(words: list[str]) -> list[str]:
    """The words without `--resume RUN`, `--resume=RUN` or a bare `--resume`."""
    kept: list[str] = []
    skip_value = False
    for word in words:
        if skip_value and not word.startswith("-"):
            skip_value = False
            continue
        skip_value = word == "--resume"
        if not skip_value and not word.startswith("--resume="):
            kept.append(word)
    return kept
