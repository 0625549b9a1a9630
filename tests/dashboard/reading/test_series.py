"""Thinned curves: bounded, exact at their ends, and no spike disappears."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.made_runs import append, make_run, train_row
from mamba_slm.dashboard.reading.follow import MOST_BYTES
from mamba_slm.dashboard.reading.series import MOST_POINTS, RunSeries, SeriesOfRuns, buckets


@given(st.integers(0, 1000), st.integers(0, 5000), st.integers(1, 700))
def test_buckets_cover_every_row_once_in_nearly_equal_parts(begin, count, most):
    borders = buckets(begin, begin + count, most)
    assert len(borders) <= most
    assert [i for pair in borders for i in range(*pair)] == list(range(begin, begin + count))
    sizes = {stop - start for start, stop in borders}
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_a_long_run_is_few_points_and_every_spike_is_in_one(tmp_path):
    run = make_run(tmp_path, steps=0)
    rows = [train_row(step) for step in range(1, 20_001)]
    for step in (5, 9_999, 20_000):
        rows[step - 1]["loss"] = 1000.0 + step
    rows[7]["loss"] = None
    append(run, *rows)
    assert run.metrics_file.stat().st_size > 2 * MOST_BYTES, "it must be read in several pieces"
    found = RunSeries(run.metrics_file).read()
    assert found["count"] == 20_000
    assert len(found["step"]) == len(found["loss"]["mean"]) == len(found["loss"]["high"]) == MOST_POINTS
    assert found["step"][-1] == 20_000
    assert {value for value in found["loss"]["high"] if value > 1000} == {1005.0, 10_999.0, 21_000.0}
    assert "null" in json.dumps(RunSeries(run.metrics_file).read(last=8)["loss"])


def test_few_rows_come_as_they_are_and_a_window_shows_more_of_less(tmp_path):
    run = make_run(tmp_path, steps=100)
    series = RunSeries(run.metrics_file)
    assert series.read()["loss"] == {
        "mean": [pytest.approx(train_row(step)["loss"], rel=1e-6) for step in range(1, 101)]
    }
    thin, window = series.read(most=10), series.read(first=20, last=24, most=10)
    assert len(thin["step"]) == 10 and "high" in thin["loss"]
    assert window["step"] == [20, 21, 22, 23, 24] and "high" not in window["loss"]
    assert [row["step"] for row in window["validation"]] == []
    assert [row["step"] for row in thin["validation"]] == [25, 50, 75, 100]


def test_the_mean_of_a_bucket_leaves_out_what_was_no_number(tmp_path):
    run = make_run(tmp_path, steps=0)
    append(run, *({**train_row(step), "loss": None if step % 2 else 4.0} for step in range(1, 9)))
    found = RunSeries(run.metrics_file).read(most=4)["loss"]
    assert found == {"mean": [4] * 4, "low": [4] * 4, "high": [4] * 4}


def test_increments_and_a_fresh_reading_agree_also_after_rows_were_cut_off(tmp_path):
    run = make_run(tmp_path, steps=30)
    series = RunSeries(run.metrics_file)
    for first, last in ((31, 40), (41, 90)):
        series.read()
        append(run, *map(train_row, range(first, last + 1)))
        assert series.read() == RunSeries(run.metrics_file).read()
    kept = run.metrics_file.read_text().splitlines()[:20]
    run.metrics_file.unlink()
    run.metrics_file.write_text("\n".join(kept) + "\n")
    again = series.read()
    assert again == RunSeries(run.metrics_file).read()
    assert again["count"] == 20


def test_series_that_nobody_looks_at_are_forgotten(tmp_path):
    runs = [make_run(tmp_path, f"run-{number}", steps=2) for number in range(3)]
    kept = SeriesOfRuns(most=2)
    first = kept.of(runs[0].metrics_file)
    assert kept.of(runs[0].metrics_file) is first
    for run in runs[1:]:
        kept.of(run.metrics_file)
    assert kept.of(runs[0].metrics_file) is not first


def test_no_file_is_an_empty_series(tmp_path):
    found = RunSeries(tmp_path / "metrics.jsonl").read()
    assert (found["count"], found["step"], found["loss"]) == (0, [], {"mean": []})
    assert not any(math.isnan(value) for value in found["step"])


@pytest.mark.parametrize("begin", [0, 3 * MOST_BYTES // 2])
def test_a_long_end_without_a_line_is_left_out(tmp_path, begin):
    path = tmp_path / "metrics.jsonl"
    row = json.dumps(train_row(1)).encode() + b"\n"
    count = begin // len(row)
    path.write_bytes(row * count + b"\0" * (2 * MOST_BYTES))  # what a power cut leaves
    series = RunSeries(path)
    assert series.read()["count"] == count
    assert series.read()["count"] == count
