"""A process of its own with good and bad tasks on Ray: `python ray_process.py FOLDER`; prints what was set aside."""

import json
import sys
from pathlib import Path

from data.engine.work import always, task_of, tasks_in, write_unless
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.ray_cluster import RayEngine

LIMITS = EngineLimits(retry_seconds=0, attempts=1, deaths=2, stalled_seconds=6, task_seconds=14, silent_seconds=12)
TROUBLES = ("bad input", "segfault", "waits for ever", "computes for ever", "holds Python's lock for ever")


def main(folder: Path) -> None:
    """Run them."""
    tasks = tasks_in(folder / "out", 3)
    marker = folder / "marker"
    tasks[1] = task_of(folder / "out", "001", write_unless, text="text 1", marker=marker, trouble="killed")
    tasks += [task_of(folder / "out", trouble, always, trouble=trouble) for trouble in TROUBLES]
    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    with RayEngine(2, folder=folder / "work", limits=LIMITS, reporting=Reporting(say=say)) as engine:
        found = engine.run(tasks, stage="write", may_quarantine=True)
        engine.for_stage("again")(tasks[:3])
    print(json.dumps({one.task.name: one.error for one in found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
