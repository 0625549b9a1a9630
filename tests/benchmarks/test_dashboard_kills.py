"""`benchmarks/dashboard_kills.py` starts; tests/dashboard/test_killed_at_random.py has a round of it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "dashboard_kills.py"


def test_it_finds_what_it_kills_and_ends_when_the_time_is_over():
    done = subprocess.run([sys.executable, str(SCRIPT), "--minutes", "0"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
