"""Stopping politely: the first SIGINT or SIGTERM asks the loop to finish its step and save, the second one aborts."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """Context in which SIGINT and SIGTERM set `requested`; a second one raises KeyboardInterrupt at once.

    Outside the main thread, where Python allows no signal handlers, it only carries the flag: call `request()`.
    """

    def __init__(self, announce=None):
        self.requested: str | None = None
        """Name of the signal that asked for the stop, or None."""
        self.announce = announce
        self.previous: dict[int, object] = {}

    def request(self, why: str = "request") -> None:
        """Ask for a stop after the current step."""
        self.requested = why

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handler of both signals."""
        name = signal.Signals(number).name
        if self.requested is not None:
            raise KeyboardInterrupt(f"second {name}")
        self.request(name)
        if self.announce:
            self.announce(f"{name}: finishing this step and saving; once more aborts without saving")

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self.on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.previous.clear()
