"""What stands in for a cluster."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Slurm's three commands; gives the folder of the jobs."""
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (commands / name).write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{HERE.with_name("slurm_stand_in.py")}" {name} "$@"\n'
        )
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(jobs))
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[2]))
    return jobs
