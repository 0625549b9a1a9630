"""`benchmarks/prefix_cache.py` reuses what it says. Nothing here is timed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "prefix_cache.py"


@pytest.mark.slow
def test_every_branch_reuses_what_was_read_before_it():
    command = [sys.executable, str(SCRIPT), "--model", "nano", "--tokens", "400", "--new-tokens", "8", "--rounds", "1"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reused = {name.strip(): int(count) for name, count in re.findall(r"^(\D.*?) {2,}(\d+) +[\d.]+ +[\d.]+$", out, re.M)}
    assert reused["cold, cache off"] == reused["cold, states kept"] == 0
    assert reused["the same prompt"] == 400
    for at in (390, 360, 200):
        assert at - 256 <= reused[f"branches at {at}, first time"] <= at
        assert reused[f"branches at {at}, again"] == at
