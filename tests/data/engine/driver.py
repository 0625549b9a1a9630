"""A process of its own that runs three stages with an engine: `python driver.py ENGINE WORKERS FOLDER`.

After every task it prints a JSON line with the processes of its workers, so that a test can kill one of them, or it.
"""

import json
import sys
from pathlib import Path

from data.engine.stages import run_all
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.local import HereEngine, LocalEngine

LIMITS = EngineLimits(retry_seconds=0, attempts=20, deaths=40, shared_deaths=40, silent_seconds=20)


def engine_of(kind: str, workers: int, folder: Path, reporting: Reporting):
    """An engine by its name."""
    if kind == "here":
        return HereEngine(folder=folder, limits=LIMITS, reporting=reporting)
    if kind == "local":
        return LocalEngine(workers, folder=folder, limits=LIMITS, reporting=reporting)
    raise ValueError(kind)


def pids_of(engine) -> list[int]:
    """The processes of its workers."""
    return [worker.process.pid for worker in engine.workers]


def main(kind: str, workers: str, folder: str) -> None:
    """Run everything, and say so."""
    reporting = Reporting(on_progress=lambda now: print(json.dumps(pids_of(engine)), flush=True))
    engine = engine_of(kind, int(workers), Path(folder, "work"), reporting)
    with engine:
        run_all(engine, Path(folder))
    print(json.dumps("over"), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
