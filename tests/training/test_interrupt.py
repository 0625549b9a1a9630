import os
import signal
import threading

import pytest

from mamba_slm.training.interrupt import STOPPING, StopRequest


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_asks_and_ctrl_c_after_it_aborts(number):
    said = []
    with StopRequest(said.append) as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number.name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert len(said) == 1


def test_what_a_scheduler_repeats_aborts_nothing():
    said = []
    with StopRequest(said.append) as stop:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert stop.requested == "SIGUSR1"
    assert len(said) == 1


def test_the_handlers_of_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in STOPPING]
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_one_of_several_processes_is_deaf_to_its_launcher_once_it_was_asked():
    before = [signal.getsignal(number) for number in STOPPING]
    try:
        with StopRequest(ends_process=True):
            pass
        assert [signal.getsignal(number) for number in STOPPING] == before
        with StopRequest(ends_process=True) as stop:
            stop.request("a signal to another process")
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.getsignal(signal.SIGINT) is before[0]
    finally:
        for number, handler in zip(STOPPING, before, strict=True):
            signal.signal(number, handler)


def test_in_another_thread_it_is_only_a_flag():
    seen = []

    def work():
        with StopRequest() as stop:
            stop.request("the dashboard")
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["the dashboard"]
