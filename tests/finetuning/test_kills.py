"""A fine-tuning that is killed at any moment goes on as if nothing had happened."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from small_models import save_complete_model

SETTINGS = (
    "--max-steps=40", "--save-every-steps=2", "--validate-every-steps=20", "--sample-every-steps=0",
    "--validation-share=0.2", "--context-tokens=96", "--batch-tokens=192", "--precision=fp32", "--kernels=torch",
    "--threads=1", "--rank=2", "--dropout=0.1", "--full=conv,A_log",
)  # fmt: skip


def command(*words):
    return [sys.executable, "-m", "mamba_slm.cli.main", "finetune", *words]


def kill_after_row(words, folder, row):
    """Start a run, and kill it as soon as its metrics have so many rows."""
    metrics = folder / "run" / "metrics.jsonl"
    with subprocess.Popen(command(*words), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:  # bounded by the run itself, which ends
            if metrics.is_file() and metrics.read_bytes().count(b"\n") >= row:
                os.kill(process.pid, signal.SIGKILL)
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        process.wait()
    return process.returncode


@pytest.mark.slow
def test_a_killed_run_ends_with_the_very_adapter_of_one_that_was_not(tmp_path):
    model = save_complete_model(tmp_path / "model", max_context_tokens=128)
    words = [{"instruction": f"Say {i}.", "output": f"It is {i}."} for i in range(40)]
    (tmp_path / "words.json").write_text(json.dumps(words))
    begin = [str(model), "--data", "words.json", *SETTINGS]
    subprocess.run(command(*begin, "--out", "whole"), cwd=tmp_path, check=True, capture_output=True)
    assert kill_after_row([*begin, "--out", "run"], tmp_path, 6) == -signal.SIGKILL
    subprocess.run(command("--resume", "run"), cwd=tmp_path, check=True, capture_output=True)
    for name in ("adapter/adapter_model.safetensors", "before_after.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    def rows(run):
        found = map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
        return [(row["kind"], row["step"], row["loss"]) for row in found]

    assert rows("run") == rows("whole")
