"""`benchmarks/engine.py` runs as its first lines say. Nothing here is timed."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "engine.py"


@pytest.mark.slow
def test_a_quick_look_has_a_line_for_every_number_of_requests():
    settings = shlex.split("--model nano --rows 1,3 --tokens 2 --prompt-tokens 8 --rounds 1 --weights int8")
    out = subprocess.run([sys.executable, str(SCRIPT), *settings], capture_output=True, text=True, check=True).stdout
    lines = out.splitlines()
    assert lines[1].startswith("weights  requests")
    assert [line.split()[:2] for line in lines[2:4]] == [["int8", "1"], ["int8", "3"]]
