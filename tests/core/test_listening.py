"""An address that cannot be had is an error that says so."""

import socket

import pytest

from mamba_slm.core.errors import SetupError
from mamba_slm.core.listening import listen


def test_port_0_is_a_free_one_that_takes_connections():
    with listen("127.0.0.1", 0) as bound:
        address = bound.getsockname()
        with socket.create_connection(address, timeout=10), bound.accept()[0]:
            assert address[1] > 0


@pytest.mark.parametrize(("host", "port"), [("::1%nowhere", 0), ("127.0.0.1", 70_000)])
def test_what_is_no_address_of_this_machine_is_named(host, port):
    with pytest.raises(SetupError, match=rf"cannot listen at {host}:{port}"):
        listen(host, port)


def test_a_port_that_is_taken_is_named():
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(SetupError, match=f"127.0.0.1:{port}"):
            listen("127.0.0.1", port)
