"""A process of its own that runs three stages with an engine: `python driver.py ENGINE WORKERS FOLDER MOMENTS`.

Several times a second it prints a JSON line with the processes of its workers, so that a test can kill
one of them, or it.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

from data.engine.stages import run_all
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.local import LocalEngine
from mamba_slm.data.engine.ray_cluster import RayEngine
from mamba_slm.data.engine.slurm import SlurmEngine
from mamba_slm.data.engine.slurm_job import SlurmConfig

SLURM = SlurmConfig(poll_seconds=0.05)
LIMITS = EngineLimits(retry_seconds=0, attempts=20, deaths=40, shared_deaths=40, silent_seconds=20, sign_seconds=0.2)


def pids_of(engine) -> list[int]:
    """The processes of its workers."""
    if isinstance(engine, LocalEngine):
        return [worker.process.pid for worker in engine.workers]
    return [pid for path in (engine.folder / "running").glob("*") for pid in [holder_of(path)] if pid is not None]


def holder_of(path: Path) -> int | None:
    """The process that a sign file names, if it is really that one: it may be gone, and its number another's."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(path.read_text().split()[1])
        if any(os.readlink(opened) == str(path) for opened in Path(f"/proc/{pid}/fd").iterdir()):
            return pid
    return None


def main(kind: str, workers: str, folder: str, moments: str) -> None:
    """Run everything, and say so."""
    reporting = Reporting(on_progress=lambda now: print(json.dumps(pids_of(engine)), flush=True))
    work = Path(folder, "work")
    count = int(workers)
    opened = {
        "local": lambda: LocalEngine(count, folder=work, limits=LIMITS, reporting=reporting),
        "ray": lambda: RayEngine(count, folder=work, limits=LIMITS, reporting=reporting),
        "slurm": lambda: SlurmEngine(count, folder=work, limits=LIMITS, reporting=reporting, slurm=SLURM),
    }
    with opened[kind]() as engine:
        run_all(engine, Path(folder), int(moments))
    print(json.dumps("over"), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
