"""What of ours runs on this machine: jobs, runs that a terminal started, and the dashboard itself."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from mamba_slm.dashboard.reading.library import Library
from mamba_slm.dashboard.reading.processes import Owner
from mamba_slm.runs.jobs import Job, list_jobs
from mamba_slm.runs.lock import live_owner
from mamba_slm.runs.process import machine_identity


def owners_of(library: Library) -> list[Owner]:
    """All of them; a process that belongs to several belongs to the first."""
    found = [job_owner(number, job) for number, home in enumerate(library.homes) for job in running(home)]
    for key, run in library.runs():
        owner = live_owner(run)
        if owner is not None and owner.pid and owner.machine == machine_identity():
            found.append(Owner(what=key.name, pid=owner.pid, path=run_path(key.home, key.name)))
    return [*found, Owner(what="this dashboard", pid=os.getpid())]


def running(home: Path) -> Sequence[Job]:
    """The jobs that run now."""
    return [job for job in list_jobs(home) if job.state == "running" and job.pid]


def job_owner(home: int, job: Job) -> Owner:
    """A job, by what it is about."""
    words = list(job.words)
    about = "" if words[2:3] == [] or words[2].startswith("-") else f" {Path(words[2]).name}"
    what = f"{words[1]}{about}"
    return Owner(what=f"job {int(job.id)}: {what}", pid=job.pid, path=f"jobs/{home}/{job.id}")


def run_path(home: int, name: str) -> str:
    """The address of a run's page."""
    return f"runs/{home}/{urllib.parse.quote(name, safe='')}"
