"""Jobs live on without who started them, wait for their turn, and say how they ended."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.runs import jobs
from mamba_slm.runs.jobs import (
    Job,
    cancel_job,
    end_job,
    find_job,
    job_summary,
    list_jobs,
    new_folder,
    read_job,
    start_job,
    write_state,
)
from mamba_slm.runs.process import machine_identity

LIST = ["mamba-slm", "runs", "list", "--json"]


def wait_for(job, *states):
    deadline = time.monotonic() + 200
    while read_job(job.path).state not in states:
        assert time.monotonic() < deadline, read_job(job.path)
        time.sleep(0.02)
    return read_job(job.path)


def test_a_job_runs_the_command_in_its_folder_and_says_how_it_ended(tmp_path):
    good = start_job(LIST, home=tmp_path, folder=tmp_path)
    bad = start_job(["mamba-slm", "runs", "show", "nothing"], home=tmp_path, folder=tmp_path)
    assert wait_for(good, "ended").exit_code == 0
    assert good.log_file.read_text().strip() == "[]"
    assert wait_for(bad, "ended").exit_code == 2
    assert "unknown run 'nothing'" in bad.log_file.read_text()
    assert [job.id for job in list_jobs(tmp_path)] == ["000001", "000002"]


def test_a_job_takes_no_modules_from_the_folder_it_runs_in(tmp_path):
    for name in ("json.py", "argparse.py", "mamba_slm.py"):  # a terminal's command would not see them either
        (tmp_path / name).write_text("raise SystemExit('taken from the wrong folder')\n")
    job = wait_for(start_job(LIST, home=tmp_path, folder=tmp_path), "ended")
    assert (job.exit_code, job.log_file.read_text().strip()) == (0, "[]")


def test_a_job_outlives_the_process_and_session_that_started_it(tmp_path):
    code = (
        "import sys, pathlib; from mamba_slm.runs.jobs import start_job; home = pathlib.Path(sys.argv[1])\n"
        f"print(start_job({LIST!r}, home=home, folder=home).id, flush=True)\n"
        "import time; time.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert starter.stdout is not None
    id = starter.stdout.readline().strip()
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()
    assert wait_for(find_job(tmp_path, id), "ended").exit_code == 0


def test_a_queued_job_waits_for_those_before_it_and_may_be_taken_back(tmp_path):
    before = new_folder(tmp_path)
    me = {"pid": os.getpid(), "machine": "elsewhere"}
    (before / "job.json").write_text('{"words": ["mamba-slm", "x"], "folder": ".", "created": 1, "is_queued": false}')
    write_state(before, state="running", **me)
    second, third = (start_job(LIST, home=tmp_path, folder=tmp_path, is_queued=True) for _ in range(2))
    for job in (second, third):
        deadline = time.monotonic() + 200
        while not read_job(job.path).pid and time.monotonic() < deadline:
            time.sleep(0.02)
        assert read_job(job.path).state == "waiting"
    assert cancel_job(read_job(second.path))
    assert wait_for(second, "cancelled").exit_code is None
    assert read_job(third.path).state == "waiting"
    write_state(before, state="ended", exit_code=0, **me)
    assert wait_for(third, "ended").exit_code == 0
    assert not cancel_job(read_job(third.path))


def test_nobody_waits_for_a_server(tmp_path):
    server = new_folder(tmp_path)
    (server / "job.json").write_text(
        '{"words": ["mamba-slm", "serve", "x"], "folder": ".", "created": 1, "is_queued": false}'
    )
    write_state(server, state="running", pid=os.getpid(), machine="elsewhere")
    assert wait_for(start_job(LIST, home=tmp_path, folder=tmp_path, is_queued=True), "ended").exit_code == 0
    assert read_job(server).state == "running"


def test_a_job_whose_process_died_is_lost_and_holds_nobody_up(tmp_path):
    dead = new_folder(tmp_path)
    (dead / "job.json").write_text('{"words": ["mamba-slm", "x"], "folder": ".", "created": 1, "is_queued": false}')
    assert read_job(dead).state == "lost"
    assert wait_for(start_job(LIST, home=tmp_path, folder=tmp_path, is_queued=True), "ended").exit_code == 0


def test_a_job_that_ends_while_somebody_reads_it_is_not_lost(tmp_path, monkeypatch):
    folder = new_folder(tmp_path)
    (folder / "job.json").write_text('{"words": ["mamba-slm", "x"], "folder": ".", "created": 1, "is_queued": false}')
    me = {"pid": os.getpid(), "process_start": "ticks 1", "machine": machine_identity()}
    write_state(folder, state="running", **me)

    def gone(_pid, _start):  # the last that the worker did came after its state was read
        write_state(folder, state="ended", exit_code=0, **me)
        return False

    monkeypatch.setattr(jobs, "is_alive", gone)
    assert (read_job(folder).state, read_job(folder).exit_code) == ("ended", 0)


@pytest.mark.parametrize(("code", "has_failed"), [(0, False), (-15, False), (130, False), (1, True), (-9, True)])
def test_who_ends_when_asked_has_not_failed(tmp_path, code, has_failed):
    job = start_job(LIST, home=tmp_path, folder=tmp_path)
    wait_for(job, "ended")
    write_state(job.path, state="ended", exit_code=code)
    assert job_summary(read_job(job.path))["has_failed"] is has_failed


def test_only_commands_of_ours_are_started(tmp_path):
    for words in (["rm", "-rf", "x"], ["mamba-slm"], []):
        with pytest.raises(UsageError):
            start_job(words, home=tmp_path, folder=tmp_path)
    with pytest.raises(UsageError, match="not here"):
        start_job(LIST, home=tmp_path, folder=tmp_path / "gone")
    assert list_jobs(tmp_path) == []


def test_a_summary_hides_secrets_and_damaged_jobs_are_left_out(tmp_path):
    secret = new_folder(tmp_path)
    words = '["mamba-slm", "train", "--hf-token", "abc"]'
    (secret / "job.json").write_text(f'{{"words": {words}, "folder": ".", "created": 1, "is_queued": false}}')
    assert "abc" not in str(job_summary(read_job(secret)))
    damaged = new_folder(tmp_path)
    (damaged / "job.json").write_text("{")
    with pytest.raises(DataError):
        read_job(damaged)
    assert [job.id for job in list_jobs(tmp_path)] == [secret.name]
    for id in ("7", "../x", "", "٣"):
        with pytest.raises(UsageError):
            find_job(tmp_path, id)


def test_of_the_worker_and_who_takes_a_job_back_one_decides(tmp_path):
    job = start_job(LIST, home=tmp_path, folder=tmp_path)
    wait_for(job, "ended")
    as_it_was = Job(**{**job.__dict__, "state": "waiting"})  # what a page read a moment before
    assert not cancel_job(as_it_was)
    assert read_job(job.path).state == "ended"


def test_a_job_that_is_asked_to_end_as_soon_as_it_runs_ends_with_its_command(tmp_path):
    for _ in range(3):
        job = start_job(["mamba-slm", "runs", "watch", "nothing"], home=tmp_path, folder=tmp_path)
        deadline = time.monotonic() + 200
        while not end_job(read_job(job.path)) and read_job(job.path).state != "ended":
            assert time.monotonic() < deadline
        assert wait_for(job, "ended").exit_code is not None, "not lost: its worker wrote down how it ended"


def test_the_oldest_jobs_that_ended_go_and_those_that_run_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT_JOBS", 4)
    content = '{"words": ["mamba-slm", "x"], "folder": ".", "created": 1, "is_queued": false}'
    for number in range(6):
        folder = new_folder(tmp_path)
        (folder / "job.json").write_text(content)
        write_state(folder, state="running" if number == 1 else "ended", pid=os.getpid(), machine="elsewhere")
    jobs.prune(tmp_path)
    assert [job.id for job in list_jobs(tmp_path)] == ["000002", "000004", "000005", "000006"]
    assert [job.id for job in list_jobs(tmp_path, most=2)] == ["000005", "000006"]
    assert new_folder(tmp_path).name == "000007", "a number is not given twice"
