"""A worker as the engine sees it: a process, its end of a socket, what it does, when it was last heard of."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from mamba_slm.data.engine.attempt import Order
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.outcome import Failure, Outcome, death

BEGIN = """
import json, sys
sys.path[:] = json.loads(sys.argv[3])
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.worker import main
main(int(sys.argv[1]), int(sys.argv[2]), EngineLimits(**json.loads(sys.argv[4])))
"""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
"""Of libraries that would start a thread per core in every worker."""
ONE_THREAD = {**dict.fromkeys(THREAD_VARIABLES, "1"), "TOKENIZERS_PARALLELISM": "false"}
"""For the environment of a worker; who sets one of these decides otherwise."""


class WorkerProcess:
    """Not a fork and not multiprocessing's spawn: the caller's threads do no harm and its script is not run again."""

    def __init__(self, limits: EngineLimits):
        self.limits = limits
        here, there = socket.socketpair()
        self.crashes = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        with there:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # a worker that was stopped half-way
                here.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(limits.silent_seconds) + 1, 0))
            paths = json.dumps([path for path in sys.path if isinstance(path, str)])
            descriptors = [there.fileno(), self.crashes.fileno()]
            self.process = subprocess.Popen(
                [sys.executable, "-c", BEGIN, *map(str, descriptors), paths, json.dumps(asdict(limits))],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=2,
                env={**ONE_THREAD, **os.environ},
            )
        self.connection = Connection(here.detach())
        self.index: int | None = None
        """The task that it does."""
        self.heard = self.given = time.monotonic()
        self.has_begun = False

    def give(self, index: int, order: Order) -> bool:
        """Send it a task; False when it is gone.

        Raises:
            Exception: the task cannot be pickled.
        """
        data = pickle.dumps(order)
        try:
            self.connection.send_bytes(data)
        except OSError:
            return False
        self.index, self.given, self.heard = index, time.monotonic(), time.monotonic()
        return True

    def receive(self) -> tuple[Outcome | None, bool]:
        """Read one message: the end of its task, if it is that; and whether the worker can go on."""
        try:
            kind, *content = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return self.died(), False
        self.heard, self.has_begun = time.monotonic(), True
        outcome: Any = content[0] if content else None
        return outcome, kind != "last"

    @property
    def is_silent(self) -> bool:
        """Whether nothing was heard of it for too long."""
        return time.monotonic() - self.heard > self.limits.given_up_seconds

    def fell_silent(self) -> Outcome:
        """Kill it; how its task ended."""
        seconds = time.monotonic() - self.heard
        self.stop()
        text = f"{self.said()}\nthe worker gave no sign of life for {seconds:.0f} s".strip()
        return Outcome(seconds=time.monotonic() - self.given, failure=Failure(kind="passing", text=text))

    def died(self) -> Outcome:
        """How the task of a worker that is gone ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.returncode
        self.stop()
        return Outcome(seconds=time.monotonic() - self.given, failure=death(code, self.said()))

    def said(self) -> str:
        """What faulthandler wrote."""
        with contextlib.suppress(ValueError, OSError):
            return os.pread(self.crashes.fileno(), 1 << 16, 0).decode(errors="replace").strip()
        return ""

    def stop(self) -> None:
        """Kill it; what it does is lost."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # not even that helps while it waits for a dead disk
            self.process.wait(5)
        self.connection.close()

    def close(self) -> None:
        """Let go of everything."""
        if not self.connection.closed:
            self.stop()
        self.crashes.close()
