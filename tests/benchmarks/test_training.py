"""`benchmarks/loader.py`, `trainer.py` and `optimizers.py` run and measure what they say. Nothing here is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def run(name, *words, out):
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks" / name), *words, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_loader_is_measured_alone_and_before_steps_of_a_model(tmp_path):
    said, found = run("loader.py", "--smoke", out=tmp_path / "loader.json")
    assert "times what nano takes" in said
    assert set(found["loader_tokens_per_second"]) == {"512", "2048", "8192"}
    assert set(found["steps"]) == {"0", "2"}


@pytest.mark.slow
def test_the_bare_loop_trains_as_the_trainer_does(tmp_path):
    said, found = run("trainer.py", "--smoke", out=tmp_path / "trainer.json")
    assert "times the bare loop's" in said
    assert found["overhead"]["largest_difference_of_losses"] < 1e-5


@pytest.mark.slow
def test_every_optimiser_takes_the_same_batches(tmp_path):
    pytest.importorskip("bitsandbytes", reason="the extra bnb is not installed")
    words = ["--model", "nano", "--steps", "2", "--batch-tokens", "128", "--context-tokens", "64"]
    said, found = run("optimizers.py", str(REPOSITORY / "docs"), *words, out=tmp_path / "optimizers.json")
    assert [row["optimizer"] for row in found["rows"]] == ["adamw", "adamw8bit", "muon"]
    assert len({round(row["losses"][0], 5) for row in found["rows"]}) == 1  # the loss before any step
    moments = [row["moment_bytes"] for row in found["rows"]]
    assert moments[1] < 0.3 * moments[0] and moments[2] < moments[0]
    assert "times adamw's step" in said
