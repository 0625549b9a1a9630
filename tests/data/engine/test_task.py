"""A task writes one folder, whole or not at all."""

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


def test_the_reason_is_the_last_line(tmp_path):
    (task,) = tasks_in(tmp_path, 1)
    assert Quarantined(task=task, error="Traceback\n  x\nValueError: y\n", attempts=1).reason == "ValueError: y"
