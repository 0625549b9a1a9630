"""Workers die, hang, run into bad input and full disks; what can be done gets done, and once."""

import functools
import os
import sys

import pytest

from data.engine.work import always, contents, task_of, tasks_in, write, write_unless
from mamba_slm.core.errors import ConfigError, DataError, DiskFullError, SetupError
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.local import HereEngine, LocalEngine, Reporting, local_engine
from mamba_slm.data.engine.task import Task

FAST = EngineLimits(retry_seconds=0, deaths=4)
SILENT = EngineLimits(retry_seconds=0, silent_seconds=4)
STALLED = EngineLimits(retry_seconds=0, attempts=2, stalled_seconds=1.5)
LONG = EngineLimits(retry_seconds=0, attempts=2, task_seconds=1.5)
"""A good task that waits for the disk so long has a second attempt."""


@pytest.fixture
def expected(tmp_path):
    tasks = tasks_in(tmp_path / "expected")
    assert HereEngine().run(tasks, stage="write") == ()
    return contents(tmp_path / "expected")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_writes_the_same(tmp_path, expected, workers):
    with LocalEngine(workers) as engine:
        assert engine.run(tasks_in(tmp_path / "out"), stage="write") == ()
        assert len(engine.workers) == workers
    assert contents(tmp_path / "out") == expected


def test_the_workers_of_one_stage_serve_the_next(tmp_path, expected):
    with LocalEngine(1) as engine:
        run = engine.for_stage("write")
        run(tasks_in(tmp_path / "a"))
        (worker,) = engine.workers
        run(tasks_in(tmp_path / "b"))
        run([])
        assert engine.workers == [worker]
    assert worker.process.returncode is not None
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == expected


@pytest.mark.parametrize("trouble", ["killed", "segfault", "exit", "error", "no memory"])
def test_what_goes_wrong_once_is_tried_again(tmp_path, trouble):
    said = []
    tasks = tasks_in(tmp_path / "out", 4)
    marker = tmp_path / "marker"
    tasks[1] = task_of(tmp_path / "out", "001", write_unless, text="text 1", marker=marker, trouble=trouble)
    with LocalEngine(2, limits=FAST, reporting=Reporting(say=said.append)) as engine:
        assert engine.run(tasks, stage="write") == ()
    assert HereEngine().run(tasks_in(tmp_path / "expected", 4), stage="write") == ()
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    (line,) = said
    reason = {
        "killed": "the worker was killed by SIGKILL (no memory left?)",
        "segfault": "the worker was killed by SIGSEGV",
        "exit": "the worker ended with exit status 3",
        "error": "ValueError: this may pass",
        "no memory": "MemoryError",
    }[trouble]
    assert line == f"write: task 001 is tried again: {reason}"


@pytest.mark.parametrize(
    ("trouble", "limits", "attempts", "said"),
    [
        ("error", FAST, 3, "ValueError: this may pass"),
        ("bad input", FAST, 1, "DataError: line 3 is no JSON"),
        ("killed", FAST, 4, "killed by SIGKILL"),
        ("segfault", FAST, 4, "in happen"),
        ("waits for ever", STALLED, 2, "the task did nothing for"),
        ("computes for ever", LONG, 2, "the task took longer than 1.5 s"),
    ],
)
def test_a_poisonous_task_is_set_aside_with_its_error_and_the_others_go_on(
    tmp_path, expected, trouble, limits, attempts, said
):
    tasks = tasks_in(tmp_path / "out")
    poison = task_of(tmp_path / "out", "poison", always, trouble=trouble)
    with LocalEngine(2, limits=limits) as engine:
        (found,) = engine.run([tasks[0], poison, *tasks[1:]], stage="write", may_quarantine=True)
    assert (found.task.name, found.attempts) == ("poison", attempts)
    assert said in found.error
    if trouble not in ("killed",):
        assert "in happen" in found.error
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize("trouble", ["stopped", "holds Python's lock for ever"])
def test_a_worker_that_gives_no_sign_is_replaced(tmp_path, trouble):
    task = task_of(tmp_path, "out", write_unless, text="text", marker=tmp_path / "marker", trouble=trouble)
    said = []
    with LocalEngine(1, limits=SILENT, reporting=Reporting(say=said.append)) as engine:
        engine.run([task], stage="write")
    assert (tmp_path / "out" / "text").read_text() == "text"
    assert len(said) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_as_it_was(tmp_path, workers):
    tasks = [*tasks_in(tmp_path), task_of(tmp_path, "bad", always, trouble="bad input")]
    with local_engine(workers, limits=FAST) as engine:
        with pytest.raises(DataError, match="line 3 is no JSON") as failure:
            engine.run(tasks, stage="write")
        assert failure.value.hint == "mend it"
        tasks[-1] = task_of(tmp_path, "bad", always, trouble="error")
        with pytest.raises(ValueError, match="this may pass"):
            engine.run(tasks, stage="write")


def test_a_task_that_kills_every_worker_is_named(tmp_path):
    task = task_of(tmp_path, "bad", always, trouble="killed")
    with LocalEngine(2, limits=FAST) as engine, pytest.raises(SetupError, match="each worker that ran task bad of s "):
        engine.run([task, *tasks_in(tmp_path)], stage="s")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run_and_quarantines_nothing(tmp_path, workers):
    task = task_of(tmp_path, "bad", always, trouble="disk full")
    with local_engine(workers) as engine, pytest.raises(DiskFullError) as failure:
        engine.run([task], stage="write", may_quarantine=True)
    assert "continues" in (failure.value.hint or "")
    assert not list(tmp_path.iterdir())


def test_a_task_whose_worker_dies_again_and_again_is_tried_alone(tmp_path):
    """Together with others it may need more memory than there is."""
    seen = []
    poison = task_of(tmp_path, "poison", always, trouble="no memory")
    reporting = Reporting(say=lambda line: seen.append(sum(worker.index is not None for worker in engine.workers)))
    limits = EngineLimits(deaths=5, shared_deaths=1)
    with LocalEngine(2, limits=limits, reporting=reporting) as engine:
        (found,) = engine.run([poison, *tasks_in(tmp_path, 3)], stage="write", may_quarantine=True)
    assert found.attempts == 5
    assert seen[1:] == [0, 0, 0, 0]


def test_workers_that_do_not_even_begin_are_no_endless_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = LocalEngine(2, limits=EngineLimits(deaths=2))
    with pytest.raises(SetupError, match="worker processes cannot be started: the worker ended with exit status 1"):
        engine.run(tasks_in(tmp_path), stage="write")
    assert engine.workers == []


class Slow:
    """Is pickled when the worker that it is for is gone."""

    def __init__(self, engine):
        self.engine = engine

    def __reduce__(self):
        self.engine.workers[-1].process.wait(60)
        return str, ()


def test_workers_that_are_gone_before_they_are_given_a_task_are_no_endless_loop_either(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = LocalEngine(2, limits=EngineLimits(deaths=2))
    task = Task(out=tmp_path / "out", call=functools.partial(print, Slow(engine)))
    with pytest.raises(SetupError, match="worker processes cannot be started: the worker ended with exit status 1"):
        engine.run([task], stage="write")
    assert engine.workers == []


class OnlyHere:
    """Cannot be read by another process."""

    def __reduce__(self):
        return eval, ("1 / 0",)


def test_a_task_that_a_worker_cannot_read_is_an_error(tmp_path):
    """And of the program: setting aside one input after the other would hide it."""
    task = Task(out=tmp_path / "out", call=functools.partial(print, OnlyHere()))
    with LocalEngine(1, limits=FAST) as engine, pytest.raises(SetupError, match="cannot read its task: ZeroDivision"):
        engine.run([task], stage="write", may_quarantine=True)


def test_what_is_done_is_not_done_again(tmp_path):
    tasks = tasks_in(tmp_path, 3)
    (tmp_path / "001").mkdir()
    with LocalEngine(2) as engine:
        engine.run(tasks, stage="write")
        assert not list((tmp_path / "001").iterdir())
        engine.close()
        engine.run(tasks, stage="write")
        assert engine.workers == []


def test_no_workers_are_refused():
    with pytest.raises(ConfigError, match="workers must be at least 1, got 0"):
        local_engine(0)
    with pytest.raises(ConfigError, match="attempts must be at least 1, got 0"):
        EngineLimits(attempts=0)


def test_one_worker_is_this_process(tmp_path):
    pids = tmp_path / "pids"
    for workers in (1, 2):
        with local_engine(workers) as engine:
            task = Task(out=tmp_path / f"{workers}", call=functools.partial(note_pid, tmp_path / f"{workers}", pids))
            engine.run([task], stage="write")
    here, there = map(int, pids.read_text().split())
    assert here == os.getpid() != there


def note_pid(out, pids):
    """Write the process."""
    with pids.open("a") as file:
        file.write(f"{os.getpid()}\n")
    write(out, "")


def test_nothing_of_a_killed_attempt_is_left(tmp_path):
    task = task_of(tmp_path / "out", "poison", always, trouble="killed")
    with LocalEngine(1, limits=FAST) as engine:
        engine.run([task], stage="write", may_quarantine=True)
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "out" / ".000.of-a-killed-engine").mkdir()
    HereEngine().run(tasks_in(tmp_path / "out", 1), stage="write")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000"]
