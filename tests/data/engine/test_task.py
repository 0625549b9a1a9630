"""A task writes one folder, whole or not at all."""

import shutil

import pytest

from data.engine.work import tasks_in
from mamba_slm.data.engine.task import Quarantined, delete_leftovers, delete_leftovers_of


def test_only_what_belongs_to_these_tasks_is_deleted(tmp_path):
    tasks = tasks_in(tmp_path / "out", 2)
    delete_leftovers_of(tasks)
    names = [".000.x1", ".001.x2", ".002.x3", ".000x", "000.x", ".plan.json.x"]
    for name in names:
        (tmp_path / "out" / name / "deep").mkdir(parents=True)
    delete_leftovers_of(tasks)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names[2:])
    delete_leftovers(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000.x"]


def test_a_folder_that_is_finished_while_it_would_be_deleted_is_whole_or_not_there(tmp_path, monkeypatch):
    """The worker of a killed engine lives a little longer: with the first file gone, it must not finish the folder."""
    (task,) = tasks_in(tmp_path, 1)
    begun = task.out.with_name(f".{task.out.name}.x1")
    begun.mkdir(parents=True)
    (begun / "0").write_bytes(b"half")
    delete = shutil.rmtree

    def delete_while_it_is_finished(path, ignore_errors):
        with pytest.raises(FileNotFoundError):
            begun.rename(task.out)
        delete(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", delete_while_it_is_finished)
    delete_leftovers_of([task])
    assert not task.out.exists() and not list(task.out.parent.iterdir())


def test_what_a_killed_deletion_left_is_deleted_the_next_time(tmp_path):
    (task,) = tasks_in(tmp_path, 1)
    task.out.with_name(f".{task.out.name}.x1-deleted").mkdir(parents=True)
    delete_leftovers_of([task])
    assert not list(task.out.parent.iterdir())


def test_the_reason_is_the_last_line(tmp_path):
    (task,) = tasks_in(tmp_path, 1)
    assert Quarantined(task=task, error="Traceback\n  x\nValueError: y\n", attempts=1).reason == "ValueError: y"
