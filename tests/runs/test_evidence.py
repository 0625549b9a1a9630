import json
import shutil
from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.runs.evidence import (
    number,
    read_evaluation,
    read_events,
    read_evidence,
    read_json,
    read_json_object,
    read_samples,
    row_list,
    section,
)
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.events import Events

FIXTURE = RunDirectory(Path(__file__).parent / "fixtures" / "version-1")


def test_version_1_is_still_read():
    evidence = read_evidence(FIXTURE)
    assert evidence.problems == ()
    assert evidence.record.id == "20260401-nano"
    assert evidence.record.command == ("mamba-slm", "quickstart", "--data", "my notes.txt")
    assert evidence.status.state == "done"
    assert evidence.config["model"]["pattern"] == "M-*-M-*-"
    assert len(evidence.train) == 40
    assert [row["step"] for row in evidence.validation] == [20, 40]
    assert [row["step"] for row in evidence.samples] == [0, 0, 20, 20, 40, 40]
    assert [row["event"] for row in evidence.events] == ["spike"]
    assert len(evidence.evaluation) == 5
    assert evidence.data["tokenizer"]["vocab_size"] == 4096
    assert evidence.estimate["parameters"] == evidence.result["parameters"] == 2_050_000
    assert [folder.name for folder in FIXTURE.checkpoints()] == ["step-00000040"]
    assert FIXTURE.best() == FIXTURE.latest()


def test_what_the_trainer_writes_down_is_read_as_an_event(run):
    Events(run, lambda text: None).add(7, "spike", "step 8: the loss jumped", loss=9.0)
    (event,) = read_events(run.events_file)
    assert (event["step"], event["event"], event["text"]) == (7, "spike", "step 8: the loss jumped")
    assert list(read_evidence(run).events) == [event]


def test_the_numbers_of_the_training_rows_are_collected_without_gaps(run):
    rows = [{"kind": "train", "step": 1, "loss": 2}, {"kind": "train", "step": 2, "loss": None, "mfu": 10**400}]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evidence = read_evidence(run)
    assert evidence.measured("loss") == evidence.measured("loss") == [2]
    assert evidence.measured("mfu") == []  # no float holds it


def test_an_empty_run_is_all_problems_and_no_error(run):
    evidence = read_evidence(run)
    assert evidence.record is None
    assert evidence.estimate == evidence.result == {}
    assert {problem.split("`")[1] for problem in evidence.problems} == {
        "run.json", "status.json", "config.yaml", "data.json", "metrics.jsonl", "samples.jsonl", "evaluation.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["run.json", "status.json", "config.yaml", "data.json", "metrics.jsonl", "evaluation.json"]
)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, name):
    shutil.copytree(FIXTURE.path, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"\xff[: {\n{}\n")
    evidence = read_evidence(tmp_path / "run")
    assert len(evidence.problems) == 1
    assert name in evidence.problems[0]
    assert str(tmp_path) not in evidence.problems[0]


def test_a_file_of_a_newer_version_is_refused_not_misread(tmp_path):
    shutil.copytree(FIXTURE.path, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text('{"format_version": 2}')
    with pytest.raises(SetupError, match="format version 2"):
        read_evidence(tmp_path / "run")


@pytest.mark.parametrize("value", [None, "3", True, float("nan"), float("inf"), [1]])
def test_only_finite_numbers_are_numbers(value):
    assert number({"x": value}, "x") is None
    assert number({"x": 3}, "x") == 3


def test_sections_and_lists_of_the_wrong_type_are_empty():
    assert section({"model": [1]}, "model") == {}
    assert section({"model": {"a": 1}}, "model") == {"a": 1}
    assert row_list({"sources": {"a": 1}}, "sources") == []
    assert row_list({"sources": [{"a": 1}, 2]}, "sources") == [{"a": 1}]


def test_rows_without_what_makes_them_rows_are_left_out(tmp_path):
    (tmp_path / "evaluation.json").write_text(
        '[{"name": "a", "bits_per_byte": 1.5}, {"name": "b"}, {"bits_per_byte": NaN}, 3]'
    )
    assert read_evaluation(tmp_path / "evaluation.json") == [{"name": "a", "bits_per_byte": 1.5}]
    (tmp_path / "samples.jsonl").write_text('{"step": 0, "prompt": "", "text": "x"}\n{"step": 1}\n')
    assert read_samples(tmp_path / "samples.jsonl") == [{"step": 0, "prompt": "", "text": "x"}]


@pytest.mark.parametrize("read, content", [(read_json, "{"), (read_json_object, "[]"), (read_evaluation, "{}")])
def test_json_of_the_wrong_shape_is_a_data_error(tmp_path, read, content):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(DataError, match=r"file\.json"):
        read(tmp_path / "file.json")
