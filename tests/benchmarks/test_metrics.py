"""`benchmarks/metrics.py` counts what it says. Nothing here is timed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "metrics.py"


@pytest.mark.slow
def test_what_counting_costs_is_told_for_every_number_of_rows():
    command = [sys.executable, str(SCRIPT), "--rows", "1", "3", "--tokens", "5", "--rounds", "1"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(\d+) +[\d.]+ +[\d.]+ +[\d.]+% +[\d.]+$", out, re.M) == ["1", "3"]
    assert re.search(r"^a scrape: [\d.]+ ms, [\d,]+ bytes$", out, re.M)
