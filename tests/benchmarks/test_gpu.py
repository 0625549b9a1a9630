"""`benchmarks/gpu.py` runs to its end without a GPU too, and says what it could not do. Nothing here is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_at_a_tiny_size(tmp_path):
    done = run("--device", "cpu", "--model", "nano", "--smoke", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert not {name: part for name, part in parts.items() if "failed" in part or "left_out" in part}
    assert parts["kernels"]["left"] == {"triton": "they are for GPUs, and the device is cpu"}
    assert set(parts["conformance"]["errors"]) == {
        *("float32 packed logits", "float32 packed gradients", "float32 decoding"),
        *("bfloat16 packed logits", "bfloat16 packed gradients"),
    }
    assert parts["conformance"]["wrong"] == {}
    assert parts["training"]["tokens_per_second"] > 0
    assert parts["hybrid and transformer"]["times_as_fast"] > 0
    assert all(speed["ratio"] > 0 for speed in parts["single kernels"].values())


def test_time_that_is_over_leaves_the_rest_out_by_name(tmp_path):
    done = run("--device", "cpu", "--model", "nano", "--smoke", "--out", str(tmp_path), "--minutes", "0")
    assert done.returncode == 1
    parts = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert {part["left_out"] for part in parts.values()} == {"the time was over"}


def test_without_a_gpu_it_says_how_to_try_it():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run()
    assert done.returncode == 3
    assert "--device cpu --model nano --smoke" in done.stderr
