"""Three stages of tasks that compute for a moment. Workers import it."""

import functools
import hashlib
from pathlib import Path

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.engine.task import Task

NUM_TASKS = 12


def digest(out: Path, reads: list[Path], name: str) -> None:
    """Hash what the stage before wrote, some thousand times, into files of a folder."""
    state = name.encode() + b"".join((path / "2").read_bytes() for path in reads)
    with folder_written_atomically(out) as folder:
        for number in range(3):
            for _ in range(20_000):
                state = hashlib.sha256(state).digest()
            (folder / f"{number}").write_bytes(state)
        write_json_atomic(folder / "summary.json", {"read": len(reads)})


def task_of(folder: Path, reads: list[Path], name: str) -> Task:
    """One such task."""
    return Task(out=folder / name, call=functools.partial(digest, folder / name, reads, name))


def run_all(engine, folder: Path) -> None:
    """The three stages; a task of the second and third reads results of the one before; one task is poisonous."""
    before: list[Path] = []
    for stage in ("first", "second", "third"):
        tasks = [task_of(folder / stage, before[number : number + 3], f"{number:03}") for number in range(NUM_TASKS)]
        bad = Task(out=folder / stage / "bad", call=functools.partial(int, "bad input"))
        found = engine.run([bad, *tasks], stage=stage, may_quarantine=True)
        assert [each.task.name for each in found] == ["bad"], [each.error for each in found]
        before = [task.out for task in tasks]
