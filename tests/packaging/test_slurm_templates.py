"""The template of a training job, run by what stands in for Slurm: two processes train, and a second job goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployed import DEPLOY
from training.launching.slurm_stand_in import install
from training.test_resume import write_text

pytestmark = pytest.mark.slow


def submitted(tmp_path, environment, job, steps):
    folder = tmp_path / "slurm" / "jobs" / str(job)
    folder.mkdir()
    place = {"SLURM_JOB_ID": str(job), "SLURM_JOB_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    place |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "1"}
    words = ["runs/small", "nano", "--data", "texts.txt", "--max-steps", str(steps), "--batch-tokens", "256"]
    words += ["--context-tokens", "64", "--device", "cpu", "--vocab-size", "300"]
    return subprocess.run(
        ["bash", str(DEPLOY / "slurm" / "train.sbatch"), *words],
        cwd=tmp_path, env=environment | place, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_template_trains_in_two_processes_and_a_second_job_goes_on_where_it_ended(tmp_path):
    write_text(tmp_path / "texts.txt", seed=1)
    programs = Path(sys.executable).parent
    environment = os.environ | install(tmp_path / "slurm")
    stand_in = environment["PATH"].split(os.pathsep)[0]
    environment["PATH"] = os.pathsep.join([stand_in, str(programs), os.environ["PATH"]])
    first = int(environment["SLURM_STAND_IN_FIRST_JOB"])
    for job, steps in ((first, 2), (first + 1, 3)):
        done = submitted(tmp_path, environment, job, steps)
        assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "runs/small/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3]
