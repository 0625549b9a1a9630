"""`python -m mamba_slm.runs.job_worker FOLDER`: waits for the turn of one job, runs it, writes down how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mamba_slm.runs.jobs import ENDED, PYTHON, claim, list_jobs, read_job, write_state
from mamba_slm.runs.process import machine_identity, process_start

LOOK_SECONDS = 0.5
ENDLESS = ("serve", "dashboard")
"""Commands that go on until somebody ends them: nobody waits for these."""


def main(path: Path) -> int:
    """Run the job of a folder; the exit code is the command's."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child: subprocess.Popen[bytes] | None = None
    is_asked = False

    def end(_number: int, _frame: object) -> None:
        nonlocal is_asked
        is_asked = True
        if child is not None:
            child.terminate()

    me = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "machine": machine_identity()}
    write_state(path, state="waiting", **me)
    job = read_job(path)
    while job.is_queued and is_behind(path) and not (path / "claimed").exists():
        time.sleep(LOOK_SECONDS)
    if not claim(job):
        write_state(path, state="cancelled", **me)
        return 0
    signal.signal(signal.SIGTERM, end)  # before anybody reads that it runs, and may ask it to end
    write_state(path, state="running", **me)
    child = subprocess.Popen(
        [*PYTHON, "-m", "mamba_slm.cli.main", *job.words[1:]],
        cwd=job.folder,
        stdin=subprocess.DEVNULL,
        preexec_fn=default_signals,
    )
    if is_asked:
        child.terminate()
    code = child.wait()
    write_state(path, state="ended", exit_code=code, **me)
    return code if code >= 0 else 128 - code


def default_signals() -> None:
    """What a command expects: Ctrl-C ends it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_behind(path: Path) -> bool:
    """Whether a job before this one still waits or runs, and will end."""
    before = (job for job in list_jobs(path.parent.parent) if job.path.name < path.name)
    return any(job.state not in ENDED and job.words[1] not in ENDLESS for job in before)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
