"""Waiting threads spin only for a moment by default, and the user's own choice stands."""

import os
import subprocess
import sys

import pytest

from mamba_slm.core.threads import SPIN_ITERATIONS, spin_briefly


@pytest.mark.parametrize(
    ("chosen", "spin_count"),
    [({}, SPIN_ITERATIONS), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_the_users_choice_stands(monkeypatch, chosen, spin_count):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == spin_count


def test_the_command_line_settles_it_before_torch_is_loaded():
    program = (
        "import sys, os; from mamba_slm.cli.main import main\n"
        "assert main(['--version']) == 0 and 'torch' not in sys.modules\n"
        "print(os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.splitlines()[-1] == SPIN_ITERATIONS
