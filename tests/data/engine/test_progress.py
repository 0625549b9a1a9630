"""How far, how fast, how long still."""

import math
from dataclasses import replace

from data.engine.work import always, task_of, tasks_in
from mamba_slm.data.engine.ledger import Ledger, Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.local import HereEngine
from mamba_slm.data.engine.outcome import Outcome
from mamba_slm.data.engine.progress import StageProgress

HALF = StageProgress(
    stage="read",
    tasks=5,
    done=2,
    running=2,
    quarantined=0,
    retries=0,
    size=100,
    done_size=60,
    new_size=30,
    seconds=15.0,
)


def test_the_time_left_follows_from_what_this_run_has_done():
    assert (HALF.size_per_second, HALF.seconds_left) == (2.0, 20.0)
    assert str(HALF) == "read: 2 of 5 tasks (60%), 2 running for 15 s, 2 B/s, 20 s left"


def test_before_anything_is_done_nothing_is_promised():
    start = replace(HALF, done=1, done_size=30, new_size=0)
    assert start.seconds_left == math.inf
    assert str(start) == "read: 1 of 5 tasks (30%), 2 running for 15 s"
    over = replace(HALF, done=5, running=0, size=0, done_size=0, retries=3, quarantined=1)
    assert str(over) == "read: 5 of 5 tasks (100%), 3 tried again, 1 quarantined"


def test_it_is_told_after_every_task(tmp_path):
    told = []
    tasks = [*tasks_in(tmp_path, 2), task_of(tmp_path, "bad", always, trouble="bad input")]
    HereEngine(reporting=Reporting(on_progress=told.append)).run(tasks, stage="s", may_quarantine=True)
    assert [(one.done, one.done_size, one.quarantined) for one in told] == [(1, 10, 0), (2, 20, 0), (2, 20, 1)]


def test_it_is_told_also_while_nothing_ends(tmp_path):
    told = []
    ledger = Ledger(
        tasks_in(tmp_path, 1),
        stage="s",
        may_quarantine=False,
        limits=EngineLimits(sign_seconds=0.001),
        reporting=Reporting(on_progress=told.append),
    )
    assert ledger.take() == 0
    while len(told) < 3:
        ledger.sign()
    assert [one.running for one in told] == [1, 1, 1]
    ledger.note(0, Outcome(seconds=1.0))
    assert ledger.is_over
