"""A worker of the local engine: takes tasks from a socket, one at a time, until the other end is closed.

It ends at once when the engine's process does, however that ends, so that no task goes on unseen.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mamba_slm.core.errors import SetupError
from mamba_slm.core.network import forbid_network
from mamba_slm.data.engine.attempt import attempt
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.outcome import Failure, Outcome, failure_of
from mamba_slm.data.engine.task import Task
from mamba_slm.data.engine.watchdog import Watchdog

HUNG_STATUS = 70


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is sent for one task."""

    task: Task
    describe: bool
    timed: bool


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


def obeyed(data: bytes, watchdog: Watchdog) -> Outcome:
    """Do what an order says."""
    try:
        order: Order = pickle.loads(data)
    except Exception as error:  # a function that cannot be imported here, or whatever it does when it is
        problem = SetupError(
            f"a worker cannot read its task: {type(error).__name__}: {error}",
            hint="functions and classes of tasks belong into a module that can be imported, not into the script itself",
        )
        problem.__cause__ = error
        return Outcome(seconds=0.0, failure=failure_of(problem))
    with watchdog.watching(timed=order.timed):
        return attempt(order.task, describe=order.describe)
