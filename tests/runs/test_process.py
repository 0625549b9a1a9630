import os
import subprocess
import sys

import pytest

from mamba_slm.runs.process import is_alive, is_zombie, machine_identity, process_start, start_from_proc, start_from_ps

READERS = [start_from_proc, start_from_ps]


@pytest.fixture(params=READERS, ids=lambda reader: reader.__name__)
def start_of(request):
    if request.param(os.getpid()) is None:
        pytest.skip(f"{request.param.__name__} knows nothing about this very process: not available here")
    return request.param


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_start_of_a_process_does_not_change(start_of, child):
    assert start_of(child.pid) == start_of(child.pid) is not None


def test_a_dead_process_has_no_start_before_and_after_its_parent_noticed(start_of, child):
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not reaped: a zombie
    assert is_zombie(child.pid)
    assert start_of(child.pid) is None
    assert is_alive(child.pid, "any") is False
    child.wait()
    assert start_of(child.pid) is None
    assert is_alive(child.pid, "any") is False


def test_two_processes_started_apart_have_different_starts():
    assert process_start(os.getpid()) != process_start(1)


def test_a_pid_given_to_another_process_is_not_the_old_one(child):
    assert is_alive(child.pid, process_start(child.pid)) is True
    assert is_alive(child.pid, "ticks 1") is False


def test_without_a_known_start_a_living_pid_proves_nothing(child):
    assert is_alive(child.pid, None) is None


def test_an_impossible_pid_is_dead():
    assert is_alive(0, None) is False


def test_the_machine_is_the_same_in_another_process():
    program = "from mamba_slm.runs.process import machine_identity; print(machine_identity())"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == machine_identity()
