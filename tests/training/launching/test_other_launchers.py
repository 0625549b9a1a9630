"""What torchrun starts is one job, with the losses of one process; DeepSpeed's launcher: test_deepspeed.py."""

import os
import subprocess
import sys

import pytest

from mamba_slm.runs.layout import RunDirectory
from training.distributed.test_launch import command, losses_of
from training.test_resume import write_text


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(tmp_path):
    text = write_text(tmp_path / "text.txt", seed=3)
    alone, run = RunDirectory(tmp_path / "alone"), RunDirectory(tmp_path / "run")
    done = subprocess.run(command(alone.path, text, "--max-steps", "6"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = command(run.path, text, "--max-steps", "6")[1:]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 processes, 2 rows each per step; engine ddp" in done.stderr
    assert losses_of(run) == pytest.approx(losses_of(alone), rel=1e-5)
