"""Tasks: a function that writes one folder, whole or not at all. What is there already is not done again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Task:
    """One call. It can be pickled, and calling it twice is the same as once."""

    out: Path
    """The folder that it writes atomically; when it is there, the task is done. Its name is the task's name and belongs
    to no other task of the stage. Numbers in a `summary.json` inside are its counts in the manifest."""

    call: Callable[[], None]

    size: int = 1
    """Bytes to read, for the rate and the time left; 1 for every task of a stage where they are about alike."""

    @property
    def name(self) -> str:
        """What it is called within its stage."""
        return self.out.name

    def run(self) -> None:
        """Do it, unless it is done."""
        if not self.out.exists():
            self.call()


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A task that could not be done, while everything else went on."""

    task: Task
    error: str
    """What happened the last time: a traceback, or how the worker died."""
    attempts: int

    @property
    def reason(self) -> str:
        """The error in one line."""
        return self.error.strip().rpartition("\n")[2]


RunTasks = Callable[[Sequence[Task]], None]
"""Runs tasks in any order and returns when all are done."""


def delete_leftovers(folder: Path) -> None:
    """Delete what killed tasks have begun. Only while no task runs."""
    for path in folder.glob(".*"):
        delete_unless_finished(path)


def delete_leftovers_of(tasks: Sequence[Task]) -> None:
    """Delete what killed attempts at these tasks have begun: folders called `.NAME.anything` beside theirs."""
    names: dict[Path, set[str]] = {}
    for task in tasks:
        names.setdefault(task.out.parent, set()).add(task.name)
    for folder, wanted in names.items():
        found = [path for path in folder.iterdir() if path.name.startswith(".")] if folder.is_dir() else []
        for path in found:
            if path.name[1:].rpartition(".")[0] in wanted:
                delete_unless_finished(path)


DELETED = "-deleted"


def delete_unless_finished(path: Path) -> None:
    """Delete what an attempt has begun, unless it ends in this moment.

    The worker of a killed engine may still live, and rename the folder to what it is called when whole. Deleting it
    file by file could then take files out of a finished folder; so it is renamed first, and one comes too late.
    """
    gone = path if path.name.endswith(DELETED) else path.with_name(path.name + DELETED)
    if path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
