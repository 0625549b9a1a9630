"""What was done is known, whoever was killed."""

import json

import pytest

from data.engine.work import always, task_of, tasks_in
from mamba_slm.core.errors import DataError, RunLockedError
from mamba_slm.data.engine.attempt import described
from mamba_slm.data.engine.here import HereEngine
from mamba_slm.data.engine.local import LocalEngine, local_engine
from mamba_slm.data.engine.manifest import Manifest, read_manifest


@pytest.mark.parametrize("workers", [1, 2])
def test_a_line_per_task_says_what_it_wrote_and_nothing_of_where(tmp_path, workers):
    tasks = tasks_in(tmp_path / "out", 3)
    with local_engine(workers, folder=tmp_path / "work", configuration="abc") as engine:
        engine.run(tasks, stage="write")
    text = (tmp_path / "work" / "manifest.jsonl").read_text()
    entries = sorted((json.loads(line) for line in text.splitlines()), key=lambda entry: entry["task"])
    assert [entry.pop("seconds") >= 0 for entry in entries] == [True] * 3
    assert entries[2] == {
        "stage": "write",
        "task": "002",
        "state": "done",
        "attempts": 1,
        "files": 2,
        "bytes": sum(file.stat().st_size for file in (tmp_path / "out" / "002").iterdir()),
        "sha256": described(tmp_path / "out" / "002")["sha256"],
        "counts": {"characters": 6},
        "configuration": "abc",
    }
    assert len({entry["sha256"] for entry in entries}) == 3
    assert str(tmp_path) not in text


def test_the_checksum_is_of_names_and_contents_only(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_text("1")
        (tmp_path / name / "y").write_text("2")
    first = described(tmp_path / "a")
    assert first == described(tmp_path / "b")
    (tmp_path / "b" / "y").rename(tmp_path / "b" / "z")
    assert first["sha256"] != described(tmp_path / "b")["sha256"]
    (tmp_path / "a" / "sub" / "x").write_text("2")
    assert first["sha256"] != described(tmp_path / "a")["sha256"]


def test_a_line_that_a_kill_has_cut_off_is_written_again(tmp_path):
    tasks = tasks_in(tmp_path / "out", 3)
    path = tmp_path / "work" / "manifest.jsonl"
    with HereEngine(folder=tmp_path / "work") as engine:
        engine.run(tasks, stage="write")
    before = {entry["task"]: entry["sha256"] for entry in read_manifest(path)}
    for cut in (1, 2, 40, len(path.read_bytes().splitlines()[-1])):
        path.write_bytes(path.read_bytes()[:-cut])
        with HereEngine(folder=tmp_path / "work") as engine:
            engine.run(tasks, stage="write")
        assert {entry["task"]: entry["sha256"] for entry in read_manifest(path)} == before


def test_a_task_whose_folder_was_deleted_is_done_again(tmp_path):
    tasks = tasks_in(tmp_path / "out", 2)
    for _ in range(2):
        with HereEngine(folder=tmp_path / "work") as engine:
            engine.run(tasks, stage="write")
        (tmp_path / "out" / "001" / "text").unlink()
        (tmp_path / "out" / "001" / "summary.json").unlink()
        (tmp_path / "out" / "001").rmdir()
    assert [entry["task"] for entry in read_manifest(tmp_path / "work" / "manifest.jsonl")] == ["000", "001", "001"]


def test_what_was_set_aside_stays_aside(tmp_path):
    """So that stages that went on without it stay right, whenever the run was killed."""
    tasks = [*tasks_in(tmp_path / "out", 2), task_of(tmp_path / "out", "bad", always, trouble="bad input")]
    found = []
    for workers in (2, 1, 3):
        with local_engine(workers, folder=tmp_path / "work") as engine:
            found.append(engine.run(tasks, stage="write", may_quarantine=True))
    (first,) = found[0]
    assert first.reason == "mamba_slm.core.errors.DataError: line 3 is no JSON"
    assert [(each.error, each.attempts) for (each,) in found] == [(first.error, 1)] * 3
    assert len(read_manifest(tmp_path / "work" / "manifest.jsonl")) == 3
    with HereEngine(folder=tmp_path / "work") as engine, pytest.raises(DataError, match="no JSON"):
        engine.run(tasks, stage="write")


def test_another_configuration_is_refused(tmp_path):
    with LocalEngine(1, folder=tmp_path, configuration="a") as engine:
        engine.run(tasks_in(tmp_path / "out", 1), stage="write")
    with pytest.raises(DataError, match="holds work of another configuration"):
        LocalEngine(1, folder=tmp_path, configuration="b")
    LocalEngine(1, folder=tmp_path, configuration="a").close()


def test_two_engines_do_not_work_in_one_folder(tmp_path):
    engine = HereEngine(folder=tmp_path)
    with pytest.raises(RunLockedError, match="another process works in"):
        LocalEngine(1, folder=tmp_path)
    engine.close()
    with LocalEngine(1, folder=tmp_path), pytest.raises(RunLockedError):
        engine.run([], stage="write")
    engine.run([], stage="write")
    engine.close()


def test_a_file_that_is_no_manifest_is_refused(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match=r"manifest.jsonl, line 1 is no entry"):
        Manifest(tmp_path, "")
