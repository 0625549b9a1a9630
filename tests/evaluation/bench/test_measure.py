"""The run: every cell is saved when it is done, ratios are taken within rounds, and time is foretold."""

import json

import pytest

from mamba_slm.evaluation.bench.cells import BenchSettings, Cell
from mamba_slm.evaluation.bench.measure import Pace, in_one_line, measure_all, row_of
from mamba_slm.evaluation.bench.table import HEADER, machine_remarks, table_rows
from mamba_slm.model.checkpoint import load_config

SETTINGS = BenchSettings(
    tasks=("prefill", "decode"), lengths=(16,), peers=(), inference_precisions=("fp32",), rounds=2, decode_tokens=3
)


def test_what_was_measured_is_saved_after_every_cell_and_becomes_a_table(small_folder):
    said, saved = [], []
    results = measure_all(
        str(small_folder),
        load_config(small_folder),
        SETTINGS,
        about={"versions": {}},
        say=said.append,
        save=lambda so_far: saved.append(json.loads(json.dumps(so_far, allow_nan=False))),
    )
    assert [len(each["cells"]) for each in saved] == [1, 2]
    assert saved[-1] == json.loads(json.dumps(results))
    assert said[0].startswith("1/2 prefill 16 tokens, fp32: about ")
    assert "everything about " in said[0]
    prefill, decode = results["cells"]
    assert (prefill["machine_rate"]["unit"], decode["machine_rate"]["unit"]) == ("FLOP/s", "bytes/s")
    for cell in (prefill, decode):
        (row,) = cell["rows"]
        assert cell["agreement"] is None
        assert len(row["seconds_by_round"]) == len(cell["machine_rate"]["by_round"]) == 2
        assert row["ours_times_as_fast"] == 1.0
        assert row["peak_bytes"] > 0
        assert in_one_line(cell) in "\n".join(said)
    rows = list(table_rows(results))
    assert [row[:4] for row in rows] == [["prefill", "16", "fp32", "ours"], ["decode", "16", "fp32", "ours"]]
    assert all(len(row) == len(HEADER) for row in rows)


def test_ratios_are_medians_within_rounds():
    seconds = {"ours": [1.0, 10.0, 1.0], "granite": [3.0, 30.0, 2.0]}
    row = row_of(
        "granite",
        Cell(task="prefill", tokens=6, precision="fp32"),
        seconds,
        rates=[40.0, 4.0, 40.0],
        work=10.0,
        tokens=6,
        memory={},
    )
    assert row["ours_times_as_fast"] == 3.0
    assert row["tokens_per_second"] == 2.0
    assert row["share_of_machine"] == pytest.approx(0.5)  # 6 * 10 / 3 / 40, though one round was ten times slower


def test_the_time_of_a_cell_follows_what_the_cells_before_it_took(small_folder):
    short, long = (Cell(task="prefill", tokens=tokens, precision="fp32") for tokens in (16, 32))
    pace = Pace(load_config(small_folder), SETTINGS)
    first = pace.expected_seconds(long)
    pace.learn(short, 1000.0)
    assert pace.expected_seconds(short) == pytest.approx(1000.0)
    assert pace.expected_seconds(long) > 1900 > first
    assert pace.expected_seconds(Cell(task="decode", tokens=16, precision="fp32")) < 100


def test_a_machine_that_did_something_else_is_named():
    cell = {"task": "train", "tokens": 512, "busy_elsewhere_cores": 0.02}
    assert not list(machine_remarks({"load_average": 0.1, "cells": [cell, {**cell, "busy_elsewhere_cores": None}]}))
    said = list(machine_remarks({"load_average": 2.0, "cells": [cell, {**cell, "busy_elsewhere_cores": 1.2}]}))
    assert "load average 2.0" in said[0]
    assert "1 of 2 cells, at most 1.2 (train, 512 tokens)" in said[1]
