"""A contender in its own process: it answers, it fails in words, and it ends."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.evaluation.bench.processes import BusyElsewhere, Worker, WorkerFailedError, stat_fields
from mamba_slm.evaluation.bench.worker import Job, give_back_memory, reset_peak, status_bytes


def ended(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_job_survives_the_command_line(job):
    one = job("ours", "decode", "bf16")
    assert Job.from_json(one.to_json()) == one


def test_a_worker_answers_and_its_peak_is_its_own(job):
    worker = Worker(job("ours", "prefill"))
    try:
        facts = worker.ready()
        assert facts["parameters"] > 0
        assert worker.ask("prove") == {}
        assert worker.ask("round")["seconds"] > 0
        assert worker.ask("memory")["peak_bytes"] >= 0.9 * facts["loaded_bytes"] > 50 << 20
    finally:
        worker.close()
    assert ended(worker.process.pid)


def test_ctrl_c_is_for_the_parent_and_closing_ends_a_worker_at_once(job):
    worker = Worker(job("rate", "decode"))
    try:
        worker.ready()
        worker.process.send_signal(signal.SIGINT)
        assert worker.ask("rates 4096") == {}
    finally:
        worker.close()
    assert ended(worker.process.pid)


def test_what_fails_in_a_worker_is_said_with_its_exit_code_and_a_kill_means_memory(job, tmp_path):
    broken = Worker(replace(job("ours", "prefill"), model=str(tmp_path / "absent")))
    killed = Worker(job("rate", "prefill"))
    killed.process.kill()  # before it can answer
    try:
        with pytest.raises(WorkerFailedError, match="absent does not exist") as caught:
            broken.ready()
        assert caught.value.exit_code == 5
        with pytest.raises(OutOfMemoryError, match="killed"):
            killed.ready()
    finally:
        broken.close()
        killed.close()


def test_the_peak_begins_anew_where_the_system_allows_it():
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * (len(block) >> 12)
    high = status_bytes("VmHWM")
    del block
    give_back_memory()
    if not reset_peak():
        pytest.skip("this system cannot reset the peak of a process")
    assert status_bytes("VmHWM") < high - (32 << 20)
    assert status_bytes("VmRSS") <= status_bytes("VmHWM")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not say")
def test_programs_of_others_are_seen_and_our_own_are_not():
    def busy_seconds():
        return sum(map(int, stat_fields(busy.pid)[11:13])) / os.sysconf("SC_CLK_TCK")

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        theirs, ours = BusyElsewhere([]), BusyElsewhere([busy.pid])
        before = busy_seconds()
        while (used := busy_seconds() - before) < 1:  # as long as a machine that has much else to do takes for it
            time.sleep(0.05)
        without, with_it = ours.cores(), theirs.cores()
        assert without is not None and with_it is not None
        assert with_it - without > 0.5 * used / (time.monotonic() - theirs.started)
        assert BusyElsewhere([999_999_999]).cores() is None
    finally:
        busy.kill()
        busy.wait()
