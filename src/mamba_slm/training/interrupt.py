"""Stopping politely: SIGINT, SIGTERM or SIGUSR1 asks the loop to finish its step and save; SIGINT after that aborts.

Schedulers and launchers repeat SIGTERM while a job saves, and Slurm may announce the end of its time by SIGUSR1 and
send SIGTERM later: neither ever costs what is being saved.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Context in which `STOPPING` signals set `requested`; a SIGINT after one raises KeyboardInterrupt at once.

    Outside the main thread, where Python allows no signal handlers, it only carries the flag: call `request()`.

    Args:
        announce: takes a line for people.
        ends_process: the process has nothing else to do afterwards, and is one of several: once a stop was requested,
            SIGTERM and SIGUSR1 stay without effect to its end. The first process of a job to exit makes a launcher send
            SIGTERM to the others, which still write down how the run ended.
    """

    def __init__(self, announce=None, *, ends_process: bool = False):
        self.requested: str | None = None
        """Name of the signal that asked for the stop, or None."""
        self.announce = announce
        self.ends_process = ends_process
        self.previous: dict[int, object] = {}

    def request(self, why: str = "request") -> None:
        """Ask for a stop after the current step."""
        self.requested = why

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handler of all of them."""
        name = signal.Signals(number).name
        if self.requested is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt(f"{name} after {self.requested}")
            return
        self.request(name)
        if self.announce:
            how = "once more" if number == signal.SIGINT else "SIGINT"
            self.announce(f"{name}: finishing this step and saving; {how} aborts without saving")

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self.previous[number] = signal.signal(number, self.on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            if self.ends_process and self.requested is not None and number != signal.SIGINT:
                handler = signal.SIG_IGN
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.previous.clear()
