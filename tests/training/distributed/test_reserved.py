"""A port that is chosen for processes is theirs until they listen there."""

import socket
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mamba_slm.training.distributed.reserved import port_of, reserve_port


@pytest.mark.parametrize("host", ["localhost", ""])
def test_a_reserved_port_is_no_other_program_s_and_a_store_listens_there(host):
    with reserve_port(host) as holder, socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind((host, port_of(holder)))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", port_of(holder)), timeout=60)
        patience = timedelta(seconds=60)
        store = TCPStore("localhost", port_of(holder), is_master=True, timeout=patience, wait_for_workers=False)
        TCPStore("localhost", port_of(holder), is_master=False, timeout=patience).set("word", "heard")
        assert store.get("word") == b"heard"
