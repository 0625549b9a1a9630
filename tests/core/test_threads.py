"""Waiting threads sleep by default, and the user's own choice stands."""

import os
import subprocess
import sys

import pytest

from mamba_slm.core.threads import wait_without_spinning


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_users_choice_stands(monkeypatch, before, after):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if before:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_the_command_line_settles_it_before_torch_is_loaded():
    program = (
        "import sys, os; from mamba_slm.cli.main import main; os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "assert main(['--version']) == 0 and 'torch' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "PASSIVE"
