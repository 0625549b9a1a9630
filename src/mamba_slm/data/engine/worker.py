"""A worker of the local engine: takes tasks from a socket, one at a time, until the other end is closed.

It ends at once when the engine's process does, however that ends, so that no task goes on unseen.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from mamba_slm.core.network import forbid_network
from mamba_slm.data.engine.attempt import obeyed
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.outcome import Failure, Outcome
from mamba_slm.data.engine.watchdog import Watchdog

HUNG_STATUS = 70


def main(socket: int, crash_file: int, limits: EngineLimits) -> None:
    """Work until the engine is gone.

    Args:
        socket: file descriptor of this end.
        crash_file: file descriptor of a file for what C code that crashes or hangs can still say.
    """
    os.set_inheritable(socket, False)
    os.set_inheritable(crash_file, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine decides
    crashes = os.fdopen(crash_file, "w")
    faulthandler.enable(crashes)
    if os.environ.get("MAMBA_SLM_OFFLINE") == "1":
        forbid_network()
    connection, lock = Connection(socket), threading.Lock()

    def send(message: tuple[Any, ...]) -> None:
        try:
            with lock:
                connection.send(message)
        except OSError:  # nobody is there any more
            os._exit(0)

    def give_up(problem: str) -> None:
        failure = Failure(kind="passing", text=problem)
        send(("last", Outcome(seconds=time.monotonic() - (watchdog.begun or 0.0), failure=failure)))
        os._exit(HUNG_STATUS)

    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=receive, args=(connection, orders), daemon=True).start()
    send(("alive",))
    watchdog = Watchdog(limits, sign=lambda: send(("alive",)), give_up=give_up, crash_file=crashes)
    watchdog.start()
    while True:
        send(("over", obeyed(orders.get(), watchdog)))


def receive(connection: Connection, orders: queue.SimpleQueue[bytes]) -> None:
    """The thread that reads; when there is nothing more to come, the process ends, whatever it does."""
    while True:
        try:
            orders.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
