"""`benchmarks/adapters.py` steps what it says. Nothing here is timed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "adapters.py"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--torch"]])
def test_every_case_has_a_time_for_both_kinds_of_weights(flags):
    command = [sys.executable, str(SCRIPT), "--model", "nano", "--rank", "2", "--rounds", "1", *flags]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(int8|float32) +(.+?) +[\d.]+ +[\d.]+$", out, re.M) == [
        (kind, case)
        for kind in ("int8", "float32")
        for case in ("without adapters", "rows of the base", "one adapter", "8 adapters", "half base, half of 4")
    ]
