"""What torchrun and deepspeed start is one job, with the losses of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mamba_slm.runs.layout import RunDirectory
from training.distributed.ranks import free_port
from training.distributed.test_launch import command, losses_of
from training.test_resume import write_text

BIN = Path(sys.executable).parent


@pytest.mark.slow
@pytest.mark.alone
def test_torchrun_and_deepspeed_train_as_one_process_does(tmp_path):
    text = write_text(tmp_path / "text.txt", seed=3)
    alone = RunDirectory(tmp_path / "alone")
    done = subprocess.run(command(alone.path, text, "--max-steps", "6"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    launchers = {
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        "deepspeed": [
            *(sys.executable, str(BIN / "deepspeed"), "--num_gpus", "2", "--no_local_rank"),
            *("--master_port", str(free_port()), "--module"),
        ],
    }
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    for name, launcher in launchers.items():
        if name == "deepspeed" and not (BIN / "deepspeed").is_file():
            pytest.skip("DeepSpeed is not installed (extra scale)")
        run = RunDirectory(tmp_path / name)
        words = command(run.path, text, "--max-steps", "6")[1 if name == "torchrun" else 2 :]
        done = subprocess.run([*launcher, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 processes, 2 rows each per step; engine ddp" in done.stderr
        assert losses_of(run) == pytest.approx(losses_of(alone), rel=1e-5), name
