"""A process waits for process 0 until it listens, and says what it met when it never does."""

import socket
import threading

import pytest

from mamba_slm.core.errors import RankLostError
from mamba_slm.training.distributed.place import Place
from mamba_slm.training.distributed.reach import wait_until_reachable


def place(port, address="localhost"):
    return Place(rank=1, size=2, address=address, port=port)


def test_a_port_that_opens_later_is_reached():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        opened = []

        def open_it():
            opened.append(True)
            listener.listen()

        later = threading.Timer(0.2, open_it)
        later.start()
        wait_until_reachable(place(listener.getsockname()[1]), timeout_seconds=200)
        assert opened
        later.join()


def test_a_port_that_stays_closed_is_named_with_what_was_met():
    what = r"could not reach process 0 at localhost:\d+ within 0.3 s \(.*refused"
    with socket.socket() as closed, pytest.raises(RankLostError, match=what):
        closed.bind(("localhost", 0))  # nobody else listens there meanwhile
        wait_until_reachable(place(closed.getsockname()[1]), timeout_seconds=0.3)


def test_a_name_that_nobody_knows_is_named(monkeypatch):
    def unknown(address, timeout):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("MAMBA_SLM_OFFLINE", "0")
    monkeypatch.setattr(socket, "create_connection", unknown)  # tests have no network, not even for names
    with pytest.raises(RankLostError, match=r"at no\.such\.host:1 within 0.1 s \(Name or service not known\)") as lost:
        wait_until_reachable(place(1, "no.such.host"), timeout_seconds=0.1)
    assert "MASTER_ADDR must be an address of the machine of process 0" in (lost.value.hint or "")
