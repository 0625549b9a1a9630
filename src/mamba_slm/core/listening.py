"""Sockets that servers listen at."""

from __future__ import annotations

import contextlib
import socket

from mamba_slm.core.errors import SetupError

MOST_WAITING = 2048
"""Connections that may wait to be accepted; the kernel's own limit (net.core.somaxconn) may be lower."""


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 is a free one.

    Raises:
        SetupError: it is taken, not ours, or no address.
    """
    try:
        if not 0 <= port < 65_536:  # getaddrinfo would take what is left of it
            raise OverflowError("a port is a number from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as unless_bound:
            found = unless_bound.enter_context(socket.socket(family, kind, protocol))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(MOST_WAITING)
            unless_bound.pop_all()
    except (OSError, OverflowError) as error:
        raise SetupError(
            f"cannot listen at {host}:{port}: {error}", hint="choose another port, or --port 0 for one that is free"
        ) from error
    return found
