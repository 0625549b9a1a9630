"""A growing file is read once, in pieces; what was made of its rows is bounded and right at every moment."""

import itertools
import json

import pytest

from mamba_slm.dashboard.reading import rows
from mamba_slm.dashboard.reading.rows import Gathered, GatheredOfRuns
from mamba_slm.dashboard.reading.samples import MOST_STEPS, Texts, happened, take_event

LIST = {"begin": list, "take": list.append}


def line(step):
    return json.dumps({"step": step}).encode() + b"\n"


def test_what_comes_is_taken_once_and_half_a_row_waits(tmp_path):
    path = tmp_path / "x.jsonl"
    seen = Gathered(path, **LIST)
    assert seen.read(len) == 0
    path.write_bytes(line(1) + line(2)[:5])
    assert seen.read(list) == [{"step": 1}]
    with path.open("ab") as file:
        file.write(line(2)[5:] + b"damaged\n" + line(3))
    first = seen.read(list)
    assert first == [{"step": 1}, {"step": 2}, {"step": 3}]
    assert all(a is b for a, b in zip(first, seen.read(list), strict=True)), "not parsed again"


def test_a_file_that_was_cut_or_replaced_is_read_anew(tmp_path):
    path = tmp_path / "x.jsonl"
    seen = Gathered(path, **LIST)
    path.write_bytes(line(1) + line(2) + line(3))
    seen.read(len)
    path.write_bytes(line(1) + line(7))
    assert seen.read(list) == [{"step": 1}, {"step": 7}]
    path.unlink()
    assert seen.read(list) == []


@pytest.mark.parametrize("length", [9, 10, 11, 35])
def test_a_row_without_end_is_passed_over_and_costs_no_memory(tmp_path, monkeypatch, length):
    monkeypatch.setattr(rows, "LONGEST_ROW", 12)
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(1) + b"x" * length + b"\n" + line(2))
    seen = Gathered(path, **LIST)
    assert seen.read(list) == [{"step": 1}, {"step": 2}]
    with path.open("ab") as file:
        file.write(line(3))
    assert seen.read(list)[-1] == {"step": 3}


def test_only_the_files_that_were_looked_at_last_are_kept(tmp_path):
    kept = GatheredOfRuns(list, list.append, most=2)
    first = kept.of(tmp_path / "a")
    assert kept.of(tmp_path / "a") is first
    kept.of(tmp_path / "b"), kept.of(tmp_path / "c")
    assert kept.of(tmp_path / "a") is not first


def test_texts_of_a_long_run_are_thinned_and_keep_both_ends():
    texts = Texts()
    for step in range(5000):
        texts.take({"step": step, "prompt": "Once", "text": f"text {step}"})
    shown = texts.shown()
    steps = [page["step"] for page in shown["pages"]]
    assert len(steps) == MOST_STEPS and (steps[0], steps[-1]) == (0, 4999)
    assert len(texts.texts) <= 4 * MOST_STEPS
    assert max(b - a for a, b in itertools.pairwise(steps)) < 5000 / MOST_STEPS * 3
    assert all(page["texts"] == [f"text {page['step']}"] for page in shown["pages"])


def test_an_event_of_the_trainer_is_short_whatever_its_batch_was():
    events = happened()
    documents = [{"row": 0, "position": 0, "tokens": 9, "begins": "x", "secret": "y"}] * 100
    take_event(events, {"kind": "spike", "message": "m" * 10_000, "step": 3, "documents": documents})
    (event,) = events
    assert (event["event"], len(event["text"]), len(event["documents"]), event["more_documents"]) == (
        "spike",
        4000,
        40,
        60,
    )
    assert "secret" not in event["documents"][0]
