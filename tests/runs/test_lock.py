import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from mamba_slm.core.errors import RunLockedError
from mamba_slm.runs import lock
from mamba_slm.runs.lock import (
    STALE_SECONDS,
    RunLock,
    create_exclusively,
    heartbeat_age_seconds,
    live_owner,
    one_at_a_time,
    owner_is_alive,
    owner_summary,
    read_owner,
)


def edit_lock(run, **changes):
    content = json.loads(run.lock_file.read_text())
    run.lock_file.write_text(json.dumps({**content, **changes}))


def test_a_lock_is_held_inside_the_block_and_gone_after_it(run):
    with RunLock(run, command="mamba-slm train") as held:
        assert held.is_owned()
        held.assert_owned()
        owner = live_owner(run)
        assert owner is not None
        assert owner_summary(owner) == {
            "pid": os.getpid(),
            "host": owner.host,
            "command": "mamba-slm train",
            "since": owner.since,
        }
    assert not run.lock_file.exists()
    assert live_owner(run) is None
    assert list(run.path.glob(".*")) == []


def test_a_lock_is_given_back_when_the_work_fails(run):
    with pytest.raises(KeyboardInterrupt), RunLock(run):
        raise KeyboardInterrupt
    assert not run.lock_file.exists()


def test_a_second_process_is_refused_and_told_who_owns_the_run(run, owner_process):
    with owner_process(run) as owner:
        with pytest.raises(RunLockedError) as caught:
            RunLock(run).acquire()
        assert f"process {owner.pid}" in caught.value.message
        assert "mamba-slm train nano" in caught.value.message
        assert f"mamba-slm runs stop {run.path}" in (caught.value.hint or "")
        assert caught.value.exit_code == 1


def test_the_same_process_is_refused_too(run):
    with RunLock(run), pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
        RunLock(run).acquire()


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lock_of_a_killed_process_is_taken_over_at_once_saying_so(run, owner_process, reaped):
    said = []
    with owner_process(run) as owner:
        owner.kill()
        if reaped:
            owner.wait()
        else:
            os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        with RunLock(run, say=said.append) as held:
            assert held.taken_over_from is not None and held.taken_over_from.pid == owner.pid
    assert len(said) == 1
    assert f"process {owner.pid}" in said[0]
    assert "taking over" in said[0]


def test_a_takeover_is_said_on_stderr_by_default(run, capsys):
    run.lock_file.write_text("{}")
    os.utime(run.lock_file, (0, 0))
    with RunLock(run):
        pass
    assert "taking over" in capsys.readouterr().err


def test_a_living_process_that_got_the_pid_of_the_owner_is_no_owner(run):
    RunLock(run).acquire()
    edit_lock(run, process_start="ticks 1")
    assert live_owner(run) is None
    said = []
    with RunLock(run, say=said.append):
        assert said


@pytest.mark.parametrize("age_seconds, alive", [(0, True), (STALE_SECONDS / 2, True), (2 * STALE_SECONDS, False)])
@pytest.mark.parametrize("where", [{"machine": "elsewhere boot-id pid:[1]"}, {"process_start": None}])
def test_an_owner_the_kernel_cannot_judge_lives_as_long_as_its_heartbeat(run, owner_process, age_seconds, alive, where):
    with RunLock(run):
        content = run.lock_file.read_text()
    run.lock_file.write_text(content)
    edit_lock(run, **where)
    past = time.time() - age_seconds
    os.utime(run.lock_file, (past, past))
    assert heartbeat_age_seconds(run.lock_file) == pytest.approx(age_seconds, abs=STALE_SECONDS / 2)
    owner = read_owner(run.lock_file)
    assert owner is not None and owner_is_alive(run.lock_file, owner) is alive
    if alive:
        with pytest.raises(RunLockedError):
            RunLock(run).acquire()
    else:
        with RunLock(run, say=lambda text: None):
            pass


def test_a_refusal_because_of_another_host_says_when_it_ends(run):
    with RunLock(run):
        content = run.lock_file.read_text()
    run.lock_file.write_text(content)
    edit_lock(run, machine="elsewhere", host="elsewhere")
    with pytest.raises(RunLockedError, match="on elsewhere") as caught:
        RunLock(run).acquire()
    assert "120 s after its last sign of life" in (caught.value.hint or "")


@pytest.mark.parametrize("content", ["", "not json", "[1]", "{}", '{"pid": 0}'])
def test_an_unreadable_lock_counts_by_its_age(run, content):
    run.lock_file.write_text(content)
    with pytest.raises(RunLockedError, match="unknown"):
        RunLock(run).acquire()
    os.utime(run.lock_file, (0, 0))
    with RunLock(run, say=lambda text: None):
        pass


def test_the_heartbeat_moves_while_the_lock_is_held(run, owner_process):
    with owner_process(run):
        os.utime(run.lock_file, (0, 0))
        deadline = time.monotonic() + 200
        while run.lock_file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert heartbeat_age_seconds(run.lock_file) < STALE_SECONDS


def test_no_lock_has_no_heartbeat(run):
    assert heartbeat_age_seconds(run.lock_file) == float("inf")


def test_an_owner_that_lost_its_lock_finds_out_and_leaves_the_new_one_alone(run):
    suspended = RunLock(run)
    suspended.acquire()
    edit_lock(run, token="another", pid=1)
    with pytest.raises(RunLockedError, match="lost the lock"):
        suspended.assert_owned()
    suspended.release()
    assert run.lock_file.exists()
    run.lock_file.unlink()


def test_the_heartbeat_of_a_lost_lock_stops_keeping_it_fresh(run, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    held, before = RunLock(run), set(threading.enumerate())
    held.acquire()
    (heartbeat,) = set(threading.enumerate()) - before
    heartbeat.join(0.1)
    assert heartbeat.is_alive()
    edit_lock(run, token="another")
    heartbeat.join(200)  # a touch that it had begun is over, too
    assert not heartbeat.is_alive()
    held.release()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 and later warn about the fork
def test_a_forked_child_does_not_release_its_parents_lock(run):
    with RunLock(run) as held:
        child = multiprocessing.get_context("fork").Process(target=held.release)
        child.start()
        child.join()
        assert held.is_owned()


def test_a_dead_lock_is_judged_and_replaced_by_one_process_at_a_time(run):
    run.lock_file.write_text("{}")
    os.utime(run.lock_file, (0, 0))
    second = RunLock(run, say=lambda text: None)
    with one_at_a_time(run.path):
        waiting = threading.Thread(target=second.acquire)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert run.lock_file.read_text() == "{}"
    waiting.join(200)
    assert second.is_owned()
    second.release()


def test_of_many_processes_that_find_a_dead_lock_exactly_one_gets_it(run):
    run.lock_file.write_text("{}")
    os.utime(run.lock_file, (0, 0))
    program = (
        "import sys, time\n"
        "from mamba_slm.core.errors import RunLockedError\n"
        "from mamba_slm.runs.lock import RunLock\n"
        "held = RunLock(sys.argv[1], say=lambda text: None); input()\n"
        "try: held.acquire(); print('won', flush=True)\n"
        "except RunLockedError: print('refused', flush=True)\n"
        "input()\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, run], stdin=-1, stdout=-1, stderr=-1, text=True)
        for _ in range(6)
    ]
    for child in children:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
    outcomes = [child.stdout.readline().strip() for child in children if child.stdout is not None]
    for child in children:
        child.kill()
        child.communicate()
    assert sorted(outcomes) == ["refused"] * 5 + ["won"]


def test_creating_exclusively_never_replaces(tmp_path):
    create_exclusively(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_system_without_hard_links_still_creates_exclusively(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    create_exclusively(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
