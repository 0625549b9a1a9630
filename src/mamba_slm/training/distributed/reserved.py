"""A port for processes that have not begun yet. Until they listen, nobody else may be given it."""

from __future__ import annotations

import socket


def reserve_port(host: str) -> socket.socket:
    """A socket that holds a free port of this machine until it is closed; its number is `port_of(it)`.

    It never listens, so a process of the job may: both say that they share the address, as PyTorch's store does. A port
    that is free now but held by nobody is given to whoever asks for any before the job has imported torch.

    Args:
        host: an address of this machine; empty for all of them.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    return holder


def port_of(holder: socket.socket) -> int:
    """The number of the port that is held."""
    return holder.getsockname()[1]
