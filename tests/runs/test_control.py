import json
import os
import signal
import time

import pytest

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.runs import control
from mamba_slm.runs.control import asked_before, interrupt, request_stop, wait_until_free
from mamba_slm.runs.lock import read_owner


def owner_named_by(run):
    owner = read_owner(run.lock_file)
    assert owner is not None
    return owner


def test_a_run_nobody_owns_is_idle(run):
    assert request_stop(run) == "idle"
    assert wait_until_free(run, timeout_seconds=0)


def test_the_owner_on_this_machine_is_interrupted_and_the_run_becomes_free(run, owner_process):
    with owner_process(run) as owner:
        assert request_stop(run) == "signal"
        assert wait_until_free(run, timeout_seconds=200)
        assert owner.wait(200) == 0
        assert owner.stdout.read() == "stopped\n"


def test_asking_twice_does_not_disturb_an_owner_that_is_saving(run, owner_process):
    with owner_process(run, "ignore"):
        assert not asked_before(run, owner_named_by(run))
        assert request_stop(run) == "signal"
        assert asked_before(run, owner_named_by(run))
        assert request_stop(run) == "before"
        assert request_stop(run, again=True) == "signal"


def test_the_next_owner_was_not_asked(run, owner_process):
    for _ in range(2):
        with owner_process(run) as owner:
            assert request_stop(run) == "signal"
            owner.wait(200)


def test_an_owner_elsewhere_finds_the_request_in_the_folder(run, owner_process, monkeypatch):
    with owner_process(run) as owner:
        monkeypatch.setattr(control, "machine_identity", lambda: "a third host")
        assert request_stop(run) == "file"
        assert owner.wait(200) == 0
    assert not run.stop_file.exists()


def test_waiting_for_an_owner_that_does_not_stop_ends_by_itself(run, owner_process):
    with owner_process(run, "ignore"):
        assert request_stop(run) == "signal"
        assert not wait_until_free(run, timeout_seconds=0.3)


def test_a_request_meant_for_a_previous_owner_does_not_stop_the_next(run, owner_process):
    run.stop_file.parent.mkdir()
    run.stop_file.write_text("stop\n")
    with owner_process(run) as owner:
        time.sleep(0.3)
        assert owner.poll() is None


@pytest.mark.parametrize("with_pidfd", [True, False])
def test_a_process_that_only_shares_the_owners_pid_is_never_interrupted(run, owner_process, monkeypatch, with_pidfd):
    if not with_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with owner_process(run) as owner:
        content = json.loads(run.lock_file.read_text())
        run.lock_file.write_text(json.dumps({**content, "process_start": "ticks 1", "pid": owner.pid}))
        assert not interrupt(owner_named_by(run))
        assert request_stop(run) == "idle"
        assert owner.poll() is None


def test_without_pidfd_the_owner_is_interrupted_too(run, owner_process, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with owner_process(run) as owner:
        assert interrupt(owner_named_by(run))
        assert owner.wait(200) == 0


def test_an_owner_that_has_just_ended_is_no_error(run, owner_process):
    with owner_process(run) as owner:
        named = owner_named_by(run)
        owner.send_signal(signal.SIGINT)
        owner.wait(200)
    assert not interrupt(named)


def test_another_users_run_says_whom_to_ask(run, owner_process, monkeypatch):
    def refused(_owner):
        raise PermissionError

    monkeypatch.setattr(control, "interrupt", refused)
    with owner_process(run), pytest.raises(MambaSlmError, match="belongs to another user"):
        request_stop(run)
