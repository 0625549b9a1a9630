import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from mamba_slm.runs.layout import RunDirectory


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "20260401-nano")


@pytest.fixture
def owner_process():
    """Starts a second process that owns a run; returns once it has the lock."""

    @contextmanager
    def start(run, *options):
        command = [sys.executable, Path(__file__).with_name("owner_process.py"), run, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "owned\n"
                yield process
            finally:
                process.kill()

    return start
