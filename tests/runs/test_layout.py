import os
from pathlib import Path

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError, UsageError
from mamba_slm.runs.layout import RunDirectory, default_home, find_run, is_run, list_runs, step_of


def make_run(path: Path) -> RunDirectory:
    run = RunDirectory.create(path)
    run.metrics_file.touch()
    return run


def test_a_new_run_is_a_folder_with_a_place_for_checkpoints(tmp_path):
    run = RunDirectory.create(tmp_path / "deep" / "run")
    assert run.checkpoints_folder.is_dir()
    assert os.fspath(run) == str(tmp_path / "deep" / "run")
    assert run.name == "run"


def test_a_folder_that_holds_a_run_is_not_created_again(tmp_path):
    make_run(tmp_path / "run")
    with pytest.raises(UsageError, match="already holds a run") as caught:
        RunDirectory.create(tmp_path / "run")
    assert "--resume" in caught.value.hint


def test_a_file_is_no_place_for_a_run(tmp_path):
    (tmp_path / "run").write_text("text")
    with pytest.raises(UsageError, match="is a file"):
        RunDirectory.create(tmp_path / "run")


def test_new_runs_of_one_name_get_numbers(tmp_path):
    names = [RunDirectory.create_new(tmp_path, "nano", date="20260401").name for _ in range(3)]
    assert names == ["20260401-nano", "20260401-nano-2", "20260401-nano-3"]


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "a b"])
def test_a_run_name_cannot_leave_its_home(tmp_path, name):
    with pytest.raises(ConfigError, match="not a usable run name"):
        RunDirectory.create_new(tmp_path, name)


@pytest.mark.parametrize("what", ["absent", "empty"])
def test_opening_what_is_no_run_says_so(tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run"):
        RunDirectory.open(tmp_path / what)


def test_one_file_of_a_run_is_enough_to_open_it(tmp_path):
    for name in ("run.json", "status.json", "metrics.jsonl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        assert is_run(RunDirectory.open(tmp_path / name))


def test_checkpoints_are_sorted_by_step_and_strangers_are_left_out(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for step in (200, 100, 123456789):
        run.checkpoint_folder(step).mkdir()
    for stranger in (".step-00000300.tmp", "step-3", "notes"):
        (run.checkpoints_folder / stranger).mkdir()
    (run.checkpoints_folder / "step-00000400").write_text("a file")
    assert [step_of(folder) for folder in run.checkpoints()] == [100, 200, 123456789]
    assert run.latest() == run.checkpoint_folder(123456789)


def test_a_run_without_checkpoints_has_neither_latest_nor_best(tmp_path):
    run = RunDirectory(tmp_path / "nothing")
    assert run.checkpoints() == []
    assert run.latest() is None
    assert run.best() is None


def test_best_is_the_marked_checkpoint_while_it_exists(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.checkpoint_folder(100).mkdir()
    run.mark_best(100)
    assert run.best() == run.checkpoint_folder(100)
    run.mark_best(200)
    assert run.best() is None


@pytest.mark.parametrize("content", ["../../secret\n", "", "step-1"])
def test_a_damaged_mark_names_no_best_checkpoint(tmp_path, content):
    run = RunDirectory.create(tmp_path / "run")
    run.best_file.write_text(content)
    assert run.best() is None


def test_a_foreign_name_is_no_checkpoint():
    with pytest.raises(UsageError, match="not a checkpoint folder"):
        step_of(Path("checkpoints/best"))


def test_runs_are_listed_by_name_and_other_folders_are_not(tmp_path):
    for name in ("b", "a"):
        make_run(tmp_path / name)
    (tmp_path / "c").mkdir()
    assert [run.name for run in list_runs(tmp_path)] == ["a", "b"]
    assert list_runs(tmp_path / "absent") == []


def test_a_run_is_found_by_path_or_by_name_in_its_home(tmp_path):
    run = make_run(tmp_path / "20260401-nano")
    assert find_run(str(run.path), tmp_path / "elsewhere") == run
    assert find_run("20260401-nano", tmp_path) == run


def test_an_unknown_run_gets_the_nearest_name(tmp_path):
    make_run(tmp_path / "20260401-nano")
    with pytest.raises(UnknownNameError, match="did you mean '20260401-nano'"):
        find_run("20260401-nan", tmp_path)


def test_an_empty_home_says_how_to_start_a_run(tmp_path):
    with pytest.raises(UnknownNameError) as caught:
        find_run("nano", tmp_path)
    assert "mamba-slm quickstart" in caught.value.hint


def test_the_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMBA_SLM_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("MAMBA_SLM_HOME")
    assert default_home() == Path("runs")


def test_every_file_has_its_documented_name():
    run = RunDirectory(Path("run"))
    names = {
        "record_file": "run.json", "config_file": "config.yaml", "data_file": "data.json", "status_file": "status.json",
        "metrics_file": "metrics.jsonl", "samples_file": "samples.jsonl", "events_file": "events.jsonl",
        "evaluation_file": "evaluation.json", "log_file": "log.txt", "report_file": "report.md",
        "page_file": "report.html", "tokenizer_file": "tokenizer.json", "lock_file": "lock.json",
        "checkpoints_folder": "checkpoints",
    }  # fmt: skip
    assert {name: getattr(run, name).name for name in names} == names
    assert all(getattr(run, name).parent == run.path for name in names)
