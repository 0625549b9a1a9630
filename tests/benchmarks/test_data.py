"""`benchmarks/data.py` measures each stage in a process of its own, and its page says what was measured."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data.py"


@pytest.fixture
def texts(tmp_path):
    source = random.Random(1)
    words = [f"word{number}" for number in range(2000)]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "book.txt").write_text(". ".join(" ".join(source.choices(words, k=9)) for _ in range(3000)))
    return folder


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_stages_are_measured_beside_others_and_kept_when_only_one_is_repeated(texts, tmp_path):
    out = tmp_path / "data.json"
    only = ("--rounds", 1, "--megabytes", 1, "--out", out, "--peers", sys.executable)
    done = run(texts, *only, "--only", "read .jsonl,read .parquet")
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    found = {(row["stage"], row["way"]) for row in rows if "failed" not in row}
    assert {("read .jsonl", "ours"), ("read .jsonl", "datasets streaming, .jsonl"), ("read .parquet", "ours")} <= found
    assert all(row["tokens_per_second"] > 0 and row["peak_bytes"] > 1e7 for row in rows if "failed" not in row)

    assert run(texts, *only, "--only", "quality").returncode == 0
    again = json.loads(out.read_text())["rows"]
    kept = [row for row in again if row["stage"] != "quality"]
    assert [{name: value for name, value in row.items() if name != "command"} for row in kept] == rows
    assert all(row["command"][-1] == "read .jsonl,read .parquet" for row in kept)  # another run than the new rows
    assert any(row["stage"] == "quality" and row["way"] == "ours" for row in again)


@pytest.mark.slow
def test_a_peer_that_fails_is_named_with_its_reason(texts, tmp_path):
    out = tmp_path / "data.json"
    done = run(texts, "--rounds", 1, "--megabytes", 1, "--out", out, "--dolma", sys.executable, "--only", "quality")
    assert done.returncode == 0, done.stderr
    failed = [row for row in json.loads(out.read_text())["rows"] if "failed" in row]
    assert {row["way"] for row in failed} == {"dolma gopher_v1", "dolma c4_v2"}
    assert all("No module named 'dolma'" in row["failed"] for row in failed)
