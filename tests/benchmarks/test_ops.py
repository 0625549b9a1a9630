"""`benchmarks/ops.py` runs, and measures what it says. Nothing here is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "ops.json"


@pytest.fixture
def measuring(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import _measure

    return _measure


def committed():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_case_runs_at_a_tiny_size_and_changes_no_file():
    before = RESULTS.stat().st_mtime_ns
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "ops.py"), "--smoke"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split()[:3] == ["case", "way", "ms"]
    assert len(rows) >= len({row["case"] for row in committed()["measurements"]})
    assert RESULTS.stat().st_mtime_ns == before


def test_the_first_way_of_a_case_is_the_one_that_others_are_compared_with():
    rows = committed()["measurements"]
    for before, row in zip([None, *rows], rows, strict=False):
        is_first = before is None or before["case"] != row["case"]
        assert (row["times_as_fast"] == 1.0) or not is_first, row
        assert row["seconds"] > 0
        assert row["peak_bytes"] > 0


def test_peak_memory_is_what_lives_at_the_same_time(measuring):
    given = torch.zeros(256, requires_grad=True)

    def run():
        first = given.detach() + 1  # 1 KiB
        view = first.view(2, 128)
        view += 1  # in place: nothing new
        second = first + 1  # 2 KiB together
        del first, view
        third = second + 1  # 2 KiB again
        return third

    way = measuring.Way(name="three", run=run, inputs=[given])
    assert measuring.peak_bytes(way) == 2 * 1024


def test_gradients_count_and_do_not_pile_up(measuring):
    given = torch.zeros(256, requires_grad=True)
    way = measuring.Way(name="square", run=lambda: given.square().sum().backward(), inputs=[given])
    first = measuring.peak_bytes(way)
    assert first == measuring.peak_bytes(way) >= 1024
    assert given.grad is None


def test_ways_take_turns_and_are_compared_within_a_round(measuring):
    calls = []
    ways = [measuring.Way(name=name, run=lambda name=name: calls.append(name)) for name in ("a", "b")]
    rows = measuring.measure(measuring.Case(name="c", ways=ways), rounds=3)
    assert calls[:8] == ["a", "b"] * 4  # one round that is not counted
    assert [row["way"] for row in rows] == ["a", "b"]
    assert rows[0]["times_as_fast"] == 1.0
