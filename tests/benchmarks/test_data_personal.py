"""`benchmarks/data_personal.py` measures ours by both engines and a plain loop, once both have found the same."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data_personal.py"


def test_both_engines_and_the_plain_loop_are_measured_and_a_peer_that_fails_is_named(tmp_path):
    pytest.importorskip("hyperscan", reason="hyperscan exists for Linux on x86-64 only")
    source = random.Random(1)
    lines = [f"word{source.randint(0, 99)} ann{number}@site.org, 212-555-0187" for number in range(400)]
    (tmp_path / "book.txt").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--rounds", "1", "--json", "--peer", "datatrove=/bin/false"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [one["way"] for one in rows] == ["found and masked, hyperscan", "plain hyperscan loop", "found, re"]
    assert all(one["tokens_per_second"] > 0 for one in rows)
    assert "datatrove: not measured" in done.stderr
