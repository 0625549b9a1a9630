"""The run: every cell is saved when it is done, ratios are taken within rounds, and time is foretold."""

import json
from dataclasses import replace

import pytest

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.evaluation.bench.cells import BenchSettings, Cell
from mamba_slm.evaluation.bench.measure import ask_all, in_one_line, measure_all
from mamba_slm.evaluation.bench.pace import Pace
from mamba_slm.evaluation.bench.processes import WorkerFailedError
from mamba_slm.evaluation.bench.rows import row_of
from mamba_slm.evaluation.bench.table import (
    HEADER,
    LIMITS_HEADER,
    flatness,
    left_out_lines,
    limit_rows,
    machine_remarks,
    table_rows,
)
from mamba_slm.model.checkpoint import load_config

SETTINGS = BenchSettings(
    tasks=("prefill", "decode"), lengths=(16,), peers=(), inference_precisions=("fp32",), rounds=2, decode_tokens=3
)


@pytest.mark.slow
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
    assert (prefill["machine_rates"]["unit"], decode["machine_rates"]["unit"]) == ("FLOP/s", "bytes/s")
    for cell in (prefill, decode):
        (row,) = cell["rows"]
        assert cell["agreement"] is None
        assert len(row["seconds_by_round"]) == len(cell["machine_rates"]["by_round"]["ours"]) == 2
        assert row["ours_times_as_fast"] == 1.0
        assert row["peak_bytes"] > 0
        assert in_one_line(cell) in "\n".join(said)
    rows = list(table_rows(results))
    assert [row[:5] for row in rows] == [["prefill", "16", "1", "fp32", "ours"], ["decode", "16", "1", "fp32", "ours"]]
    assert all(len(row) == len(HEADER) for row in rows)
    assert decode["rows"][0]["conversation_bytes"] > 0
    assert "conversation_bytes" not in prefill["rows"][0]
    (limits,) = limit_rows(results)
    assert len(limits) == len(LIMITS_HEADER)
    assert not list(left_out_lines(results))


def test_cells_beyond_the_budget_are_left_out_and_named(small_folder):
    said = []
    results = measure_all(
        str(small_folder),
        load_config(small_folder),
        replace(SETTINGS, budget_seconds=1.0),
        about={},
        say=said.append,
        save=lambda so_far: None,
    )
    assert results["cells"] == []
    assert [(each["task"], each["tokens"]) for each in results["left_out"]] == [("prefill", 16), ("decode", 16)]
    lines = list(left_out_lines(results))
    assert lines[0].startswith("prefill, 16 tokens: time: about 12 s expected, ")
    assert any("left out, time: " in line for line in said)


class Asked:
    def __init__(self, answer):
        self.given, self.closed = answer, False

    def close(self):
        self.closed = True


def test_a_peer_that_fails_is_left_out_with_its_words_and_ours_is_an_error():
    def question(worker):
        if isinstance(worker.given, Exception):
            raise worker.given
        return worker.given

    full = {"ours": Asked({}), "granite": Asked(OutOfMemoryError("killed")), "llama": Asked({"a": 1})}
    workers, left_out = dict(full), {}
    assert ask_all(workers, question, left_out) == {"ours": {}, "llama": {"a": 1}}
    assert list(workers) == ["ours", "llama"]
    assert left_out == {"granite": "killed"}
    assert full["granite"].closed
    with pytest.raises(OutOfMemoryError):
        ask_all({"ours": Asked(OutOfMemoryError("killed"))}, question, {})
    assert ask_all({"granite": Asked(WorkerFailedError("another reason"))}, question, left_out) == {}
    assert left_out == {"granite": "another reason"}


def test_flatness_is_the_slowest_over_the_fastest_length_of_prefill():
    def cell(task, tokens, precision, **speeds):
        rows = [{"contender": name, "tokens_per_second": speed} for name, speed in speeds.items()]
        return {"task": task, "tokens": tokens, "precision": precision, "rows": rows}

    cells = [
        cell("prefill", 8, "fp32", ours=100.0, llama=10.0),
        cell("prefill", 16, "fp32", ours=80.0),
        cell("prefill", 8, "bf16", ours=200.0),
        cell("prefill", 16, "bf16", ours=150.0),
        cell("decode", 16, "fp32", ours=1.0),
    ]
    assert flatness({"cells": cells}) == {"ours": 0.8, "ours, bf16": 0.75}


def test_ratios_are_medians_within_rounds():
    seconds = {"ours": [1.0, 10.0, 1.0], "granite": [3.0, 30.0, 2.0]}
    row = row_of("granite", seconds, [40.0, 4.0, 40.0], work=10.0, tokens=6, limit="fp32", memory={})
    assert row["ours_times_as_fast"] == 3.0
    assert row["tokens_per_second"] == 2.0
    assert row["share_of_machine"] == pytest.approx(0.5)  # 6 * 10 / 3 / 40, though one round was ten times slower


def test_a_contender_of_fewer_rounds_is_compared_in_those():
    seconds = {"ours": [1.0, 2.0, 9.0], "granite": [3.0, 8.0]}
    row = row_of("granite", seconds, [None, None], work=10.0, tokens=6, limit="int8", memory={})
    assert row["ours_times_as_fast"] == 3.5
    assert row["share_of_machine"] is None


def test_the_time_of_a_cell_follows_what_the_cells_before_it_took(small_folder):
    short, long = (Cell(task="prefill", tokens=tokens, precision="fp32") for tokens in (16, 32))
    pace = Pace(load_config(small_folder), SETTINGS)
    first = pace.expected_seconds(long)
    pace.learn(short, 42.0, rounds=2)
    assert pace.expected_seconds(short) == pytest.approx(42.0)
    assert pace.expected_seconds(long) > 60 > first
    assert pace.expected_seconds(Cell(task="decode", tokens=16, precision="fp32")) < 30
    pace.learn(short, 1000.0, rounds=2)  # such long rounds are fewer
    assert pace.expected_seconds(short) < 700


def test_a_machine_that_did_something_else_is_named():
    cell = {"task": "train", "tokens": 512, "busy_elsewhere_cores": 0.02}
    assert not list(machine_remarks({"load_average": 0.1, "cells": [cell, {**cell, "busy_elsewhere_cores": None}]}))
    said = list(machine_remarks({"load_average": 2.0, "cells": [cell, {**cell, "busy_elsewhere_cores": 1.2}]}))
    assert "load average 2.0" in said[0]
    assert "1 of 2 cells, at most 1.2 (train, 512 tokens)" in said[1]
