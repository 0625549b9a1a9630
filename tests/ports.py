"""Ports for programs that are told at which one to listen, and begin to a while later."""

import contextlib
import random
import socket

PORTS = range(20_000, 30_000)
"""Below those that Linux gives to whoever asks for any (32,768 and above), and above those that Ray deals to workers:
between the choice of a port and its use, no other program is given it."""


def free_port() -> int:
    """A port that nobody uses on this machine; not from the seed of the tests, which is the same in every process."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
