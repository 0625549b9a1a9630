"""Three stages of tasks that compute for a moment. Workers import it."""

import functools
import hashlib
from pathlib import Path

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.engine.task import Task

NUM_TASKS = 12


def digest(out: Path, reads: list[Path], name: str, moments: int) -> None:
    """A hash of what the stage before wrote, in three files, with something to compute between them."""
    state = name.encode() + b"".join((path / "2").read_bytes() for path in reads)
    with folder_written_atomically(out) as folder:
        for number in range(3):
            for _ in range(20_000 * moments):
                hashlib.sha256(state).digest()
            state = hashlib.sha256(state).digest()
            (folder / f"{number}").write_bytes(state)
        write_json_atomic(folder / "summary.json", {"read": len(reads)})


def run_all(engine, folder: Path, moments: int = 1) -> None:
    """The three stages; a task of the second and third reads results of the one before; one task is poisonous."""
    before: list[Path] = []
    for stage in ("first", "second", "third"):
        names = [f"{number:03}" for number in range(NUM_TASKS)]
        outs = [folder / stage / name for name in names]
        calls = [
            functools.partial(digest, out, before[number : number + 3], name, moments)
            for number, (out, name) in enumerate(zip(outs, names, strict=True))
        ]
        tasks = [Task(out=out, call=call) for out, call in zip(outs, calls, strict=True)]
        bad = Task(out=folder / stage / "bad", call=functools.partial(int, "bad input"))
        found = engine.run([bad, *tasks], stage=stage, may_quarantine=True)
        assert [each.task.name for each in found] == ["bad"], [each.error for each in found]
        before = outs
