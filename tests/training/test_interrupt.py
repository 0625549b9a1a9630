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
