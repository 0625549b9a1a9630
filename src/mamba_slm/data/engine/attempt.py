"""One attempt at a task, in whichever process."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import SetupError
from mamba_slm.core.files import sha256_of_file
from mamba_slm.data.engine.ledger import Ledger
from mamba_slm.data.engine.outcome import Outcome, failure_of
from mamba_slm.data.engine.task import Task
from mamba_slm.data.engine.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is sent for one task."""

    task: Task
    describe: bool
    timed: bool
    working_folder: str
    """Where the engine is, so that relative paths mean the same."""

    @classmethod
    def of(cls, ledger: Ledger, index: int) -> Order:
        """The order for one of a ledger's tasks."""
        return cls(
            task=ledger.tasks[index],
            describe=ledger.manifest is not None,
            timed=ledger.may_quarantine,
            working_folder=os.getcwd(),
        )


def obeyed(data: bytes, watchdog: Watchdog) -> Outcome:
    """Do what an order says."""
    try:
        order: Order = pickle.loads(data)
        os.chdir(order.working_folder)
    except Exception as error:  # a function that cannot be imported here, or whatever it does when it is
        problem = SetupError(
            f"a worker cannot read its task: {type(error).__name__}: {error}",
            hint="functions and classes of tasks belong into a module that can be imported, not into the script itself",
        )
        problem.__cause__ = error
        return Outcome(seconds=0.0, failure=failure_of(problem))
    with watchdog.watching(timed=order.timed):
        return attempt(order.task, describe=order.describe)


def attempt(task: Task, *, describe: bool) -> Outcome:
    """Run a task; whatever it raises is told, not raised.

    Args:
        describe: read what it wrote and say what the manifest says about it.
    """
    start = time.monotonic()
    try:
        task.run()
        seconds = time.monotonic() - start
        return Outcome(seconds=seconds, record=described(task.out) if describe else None)
    except Exception as error:  # the task's, whatever it is
        return Outcome(seconds=time.monotonic() - start, failure=failure_of(error))


def described(out: Path) -> dict[str, Any]:
    """Bytes and files of a folder, one checksum of all names and contents, and the numbers of its summary.json."""
    paths = sorted(path for path in out.rglob("*") if path.is_file()) if out.is_dir() else [out]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(out).as_posix()}\n{sha256_of_file(path)}\n".encode())
    return {
        "files": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "sha256": digest.hexdigest(),
        "counts": counts_of(out / "summary.json"),
    }


def counts_of(summary: Path) -> dict[str, int | float]:
    """The numbers on the first level of a JSON object; none when there is no such file."""
    if not summary.is_file():
        return {}
    values = json.loads(summary.read_text(encoding="utf-8"))
    return {name: value for name, value in values.items() if type(value) in (int, float)}
