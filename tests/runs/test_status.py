import os

import pytest

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.status import Status, StatusWriter, observed_state, read_status, write_status


def test_a_status_comes_back_as_it_was_written(run):
    status = Status(state="failed", step=120, pid=4242, heartbeat=1775000000.5, message="the loss became NaN")
    write_status(run.status_file, status)
    assert read_status(run.status_file) == status


def test_no_status_yet_is_none_and_unknown(run):
    assert read_status(run.status_file) is None
    assert observed_state(run) == "unknown"


def test_a_state_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="'sleeping' is not a state"):
        Status(state="sleeping")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"state": "done"}', '{"format_version": 1}', '{"format_version": "1"}']
)
def test_a_damaged_status_is_named(run, content):
    run.status_file.write_text(content)
    with pytest.raises(DataError, match=r"status\.json"):
        read_status(run.status_file)
    assert observed_state(run) == "unknown"


def test_a_newer_status_is_refused(run):
    run.status_file.write_text('{"format_version": 2, "state": "dreaming"}')
    with pytest.raises(SetupError, match="format version 2") as caught:
        read_status(run.status_file)
    assert "upgrade" in caught.value.hint


def test_an_update_every_step_writes_seldom_but_never_misses_a_change(run):
    writer = StatusWriter(run.status_file, interval_seconds=3600)
    writer.update("running", step=0)
    for step in range(1, 100):
        writer.update("running", step=step)
    assert read_status(run.status_file).step == 0
    writer.update("running", step=100, message="validating")
    assert read_status(run.status_file).step == 100
    writer.update("done", step=101, message="validating")
    status = read_status(run.status_file)
    assert (status.state, status.step, status.pid) == ("done", 101, os.getpid())


def test_an_update_after_the_interval_is_written(run):
    writer = StatusWriter(run.status_file, interval_seconds=0)
    for step in range(3):
        writer.update("running", step=step)
        assert read_status(run.status_file).step == step


def test_a_run_that_says_running_without_an_owner_has_crashed(run):
    write_status(run.status_file, Status(state="running", step=5))
    assert observed_state(run) == "crashed"
    with RunLock(run):
        assert observed_state(run) == "running"
    write_status(run.status_file, Status(state="done", step=5))
    assert observed_state(run) == "done"
