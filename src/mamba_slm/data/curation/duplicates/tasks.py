"""Tasks: a function that writes one folder, whole or not at all. What is there already is not done again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from mamba_slm.core.errors import SetupError


@dataclass(frozen=True, kw_only=True)
class Task:
    """One call. It can be pickled, and calling it twice is the same as once."""

    out: Path
    """The folder that it writes atomically; when it is there, the task is done."""

    call: Callable[[], None]

    def run(self) -> None:
        """Do it, unless it is done."""
        if not self.out.exists():
            self.call()


RunTasks = Callable[[Sequence[Task]], None]
"""Runs tasks in any order and returns when all are done: a local pool, a cluster's."""


def run_here(tasks: Sequence[Task]) -> None:
    """One after the other, in this process."""
    for task in tasks:
        task.run()


def local_pool(workers: int) -> RunTasks:
    """On processes of this machine; 1 worker is this process.

    The returned function raises SetupError when a process dies; what is done stays done.
    """
    return run_here if workers == 1 else LocalPool(workers)


@dataclass(frozen=True)
class LocalPool:
    """Tasks on `workers` processes."""

    workers: int

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Run what is not done yet."""
        left = [task for task in tasks if not task.out.exists()]
        if len(left) <= 1:
            return run_here(left)
        with ProcessPoolExecutor(min(self.workers, len(left)), get_context("spawn")) as pool:
            running = [pool.submit(task.run) for task in left]
            try:
                for future in as_completed(running):
                    future.result()
            except BrokenProcessPool as error:
                done = sum(task.out.exists() for task in tasks)
                raise SetupError(
                    f"a worker died after {done} of {len(tasks)} tasks of {tasks[0].out.parent}: killed, or no memory",
                    hint="run the same command again, perhaps with fewer workers: it continues",
                ) from error
            finally:
                for future in running:
                    future.cancel()


def delete_leftovers(folder: Path) -> None:
    """Delete what killed tasks have begun. Only while no task runs."""
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)
