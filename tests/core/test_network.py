import socket
import subprocess
import sys

import pytest

from mamba_slm.core.errors import SetupError
from mamba_slm.core.network import forbid_network, refuse_connections

FAR = ("192.0.2.1", 80)  # reserved for documentation: nothing answers there


def test_connections_and_look_ups_beyond_this_machine_are_refused():
    forbid_network()
    with pytest.raises(SetupError, match=r"wants to reach 192\.0\.2\.1"):
        socket.create_connection(FAR, timeout=1)
    with pytest.raises(SetupError, match="wants to reach example"):
        socket.getaddrinfo("example.invalid", 80)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(SetupError):
        datagrams.sendto(b"x", FAR)


def test_loopback_and_unix_sockets_stay_usable():
    forbid_network()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    first, second = socket.socketpair()
    with first, second:
        first.send(b"x")
        assert second.recv(1) == b"x"
    refuse_connections("open", ("file", "r", 0))


def test_a_process_that_did_not_ask_is_left_alone():
    script = (
        "import socket, sys, mamba_slm.core.network as network\n"
        "network.refuse_connections('open', ())\n"
        "print(network.installed)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
