"""On Ray, what is bad is set aside with its error, and the rest is what this process would have written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.engine.work import contents, tasks_in
from mamba_slm.core.errors import ConfigError, RunLockedError, SetupError
from mamba_slm.data.engine.here import HereEngine
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.manifest import read_manifest
from mamba_slm.data.engine.ray_cluster import STARTS, RayEngine

PROCESS = Path(__file__).with_name("ray_process.py")
SAID = {
    "bad input": "DataError: line 3 is no JSON",
    "segfault": "Segmentation fault",
    "waits for ever": "the task did nothing for",
    "computes for ever": "the task took longer than 14 s",
    "holds Python's lock for ever": "Timeout",
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dead_and_hung_workers_and_bad_input_on_ray(tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROCESS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROCESS.parents[2])},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # and nothing of Ray's own talk
    assert found.keys() == SAID.keys()
    for trouble, error in found.items():
        assert SAID[trouble] in error
        assert "in happen" in error
    assert "write: task 001 is tried again" in done.stderr
    HereEngine().run(tasks_in(tmp_path / "expected", 3), stage="write")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    entries = read_manifest(tmp_path / "work" / "manifest.jsonl")
    assert sorted(entry["stage"] for entry in entries if entry["state"] == "done") == ["again.out"] * 3 + ["write"] * 3
    assert not list((tmp_path / "work" / "running").iterdir())


def test_what_cannot_work_is_refused_before_ray_begins(tmp_path):
    with pytest.raises(ConfigError, match="workers must be at least 1, got 0"):
        RayEngine(0, folder=tmp_path)
    with HereEngine(folder=tmp_path), pytest.raises(RunLockedError):
        RayEngine(1, folder=tmp_path)


def test_a_cluster_that_starts_too_slowly_is_started_again_and_at_last_named(tmp_path, monkeypatch):
    said, tries = [], []

    def too_slow(**settings):
        tries.append(settings["address"])
        raise Exception("The current node timed out during startup.")  # as Ray does after 30 seconds

    with RayEngine(1, folder=tmp_path, reporting=Reporting(say=said.append)) as engine:
        monkeypatch.setattr(engine.ray, "init", too_slow)
        with pytest.raises(SetupError, match="this machine cannot be joined or started: The current node timed out"):
            engine.begin()
    assert tries == ["local"] * STARTS
    assert len(said) == STARTS - 1 and all("trying again" in line for line in said)
