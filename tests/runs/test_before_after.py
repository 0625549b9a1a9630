"""Promises of before and after: paired intervals, honest verdicts, and their place in the report."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.runs.before_after import (
    Change,
    change_rows,
    interval_of_mean,
    mean_change,
    read_changes,
    score_change,
    share_change,
    write_changes,
    written,
)
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.report import render_html, render_report

FIXTURE = Path(__file__).parent / "fixtures" / "version-1"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_turning_time_around_turns_the_change_around(pairs):
    before, after = zip(*pairs, strict=True)
    forth, back = share_change("x", before, after), share_change("x", after, before)
    assert forth.difference == pytest.approx((-back.difference[1], -back.difference[0]))
    assert (forth.before, forth.after) == (back.after, back.before)
    assert forth.before_interval[0] <= forth.before <= forth.before_interval[1]
    if before == after:
        assert forth.is_noise


def test_the_interval_of_a_share_is_that_of_agresti_and_min():
    # 100 pairs, 20 gained, 8 lost: (12/102) ± 1.96 · sqrt(29 - 12²/102) / 102
    before = [False] * 20 + [True] * 8 + [True] * 40 + [False] * 32
    after = [True] * 20 + [False] * 8 + [True] * 40 + [False] * 32
    found = share_change("won", before, after)
    assert (found.before, found.after) == (0.48, 0.6)
    assert found.difference == pytest.approx((0.01672, 0.21857), abs=1e-5)
    assert found.verdict == "better"
    assert share_change("lost", after, before).verdict == "worse"
    assert share_change("lost", after, before, better="neither").verdict == "fell"


def test_pairing_sees_what_two_means_hide():
    before = [float(number) for number in range(40)]
    after = [value - 0.1 - 0.01 * (number % 3) for number, value in enumerate(before)]
    found = mean_change("held-out loss", before, after, unit="nats", better="lower")
    assert found.before_interval[0] < found.after < found.before_interval[1]  # unpaired: noise
    assert found.verdict == "better"
    low, high = interval_of_mean([now - then for then, now in zip(before, after, strict=True)])
    assert low < found.after - found.before < high < 0


def test_too_few_cases_get_no_interval_and_no_verdict():
    assert interval_of_mean([1.0]) is None
    one = mean_change("reward", [0.0], [1.0], unit="")
    assert (one.difference, one.verdict) == (None, "no interval")
    assert score_change("t", (0.5, None), (0.6, 0.1), count=9).verdict == "no interval"
    assert score_change("t", (0.5, 0.01), (0.4, 0.01), count=9).verdict == "worse"
    assert score_change("t", (0.5, 0.1), (0.4, 0.1), count=9).verdict == "≈ within noise"
    for before, after in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(DataError, match="was measured on"):
            mean_change("x", before, after, unit="")


def test_the_file_says_what_was_measured_and_damage_is_named(tmp_path):
    changes = [share_change("a", [True, False], [True, True]), mean_change("b", [1.0], [2.0], unit="nats")]
    path = write_changes(tmp_path, changes)
    assert read_changes(path) == changes
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "changes": [{**content["changes"][0], "better": "up"}]}))
    with pytest.raises(DataError, match="no change"):
        read_changes(path)


@pytest.fixture
def tuned(tmp_path):
    run = RunDirectory(Path(shutil.copytree(FIXTURE, tmp_path / "20260401-dpo")))
    run.evaluation_file.unlink()
    record = json.loads(run.record_file.read_text())
    run.record_file.write_text(json.dumps({**record, "kind": "align"}))
    return run


def test_the_report_of_an_alignment_shows_what_changed_and_what_it_cost(tuned):
    write_changes(tuned.path, [share_change("chosen | likelier", [False] * 30, [True] * 30)])
    scores = [{"step": step, "task": "piqa", "metric": "acc", "score": score, "stderr": 0.001, "questions": 100}
              for step, score in ((0, 0.6), (50, 0.55))]  # fmt: skip
    tuned.benchmarks_file.write_text("".join(json.dumps(row) + "\n" for row in scores))
    report = render_report(tuned)
    assert "- ✓ chosen | likelier: 0.0% → 100.0% (better)" in report.replace("\\|", "|")
    section = report.split("## Before and after")[1].split("\n## ")[0]
    assert "| 30 | 0.0% [0.0, 11.4] | 100.0% [88.6, 100.0] |" in section
    assert "| piqa (acc) | 100 | 60.0% | 55.0% | -5.0% [-5.3, -4.7] | worse |" in section
    assert "`evaluation.json` is missing" not in report
    assert "Not evaluated" not in report
    page = render_html(tuned)
    assert "Before and after, on the same examples" in page
    assert "60.0%" in page

    cost = score_change("piqa (acc)", (0.6, 0.001), (0.55, 0.001), count=100)  # as a fine-tuning writes it itself
    write_changes(tuned.path, [cost])
    assert render_report(tuned).count("| piqa (acc) | 100 |") == 1


def test_an_alignment_that_was_not_measured_says_so_and_one_with_a_loss_shows_it(tuned):
    assert "nothing was measured on held-out examples" in render_report(tuned)
    record = json.loads(tuned.record_file.read_text())
    result = {**record["result"], "validation_loss_before": 3.0, "validation_loss_after": 2.5}
    tuned.record_file.write_text(json.dumps({**record, "result": result}))
    assert "held-out loss: 3.000 nats → 2.500 nats (no interval)" in render_report(tuned)
    assert "Before and after, on the same examples" in render_html(tuned)


def test_a_pretraining_has_no_such_section():
    assert "Before and after" not in render_report(FIXTURE)
    assert "Before and after" not in render_html(FIXTURE)


def test_numbers_are_written_with_their_units():
    change = Change(name="x", unit="share", better="higher", count=0, before=0.5, after=0.25, difference=(-0.5, 0.0))
    assert change_rows([change]) == [["x", "–", "50.0%", "25.0%", "-25.0% [-50.0, +0.0]", "≈ within noise"]]
    assert written(1.0, None, "") == "1.000"
