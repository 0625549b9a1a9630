"""Inside a worker: signs of life while a task runs, and an end to a task that hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import IO

from mamba_slm.data.engine.limits import EngineLimits

NOTICEABLE_SECONDS = 0.02
"""Computing time that a task has used, and not the watchdog: it needs less in all the beats of a minute."""
NOTICEABLE_SHARE = 0.01
"""Of `stalled_seconds`: the least computing time that is a task's. Ray's own threads in a worker that waits need a
quarter of it, and in some seconds more than `NOTICEABLE_SECONDS`."""

reports = 0


def still_going() -> None:
    """Told by a task that waits for a long time without computing, as for a network, each time that something came."""
    global reports
    reports += 1


class Watchdog:
    """A thread that says every few seconds that the process is alive, and looks whether the task is.

    What a thread cannot see, a call in C that never lets Python run, is ended by faulthandler's own thread.
    """

    def __init__(
        self,
        limits: EngineLimits,
        *,
        sign: Callable[[], None],
        give_up: Callable[[str], None],
        crash_file: IO[str] | None = None,
    ):
        """
        Args:
            sign: called from the thread every few seconds.
            give_up: called from the thread with what is wrong and where the task hangs; it must end the process.
            crash_file: where C code that hangs, or crashes, is noted; its file descriptor is used.
        """
        self.limits, self.sign, self.give_up, self.crash_file = limits, sign, give_up, crash_file
        self.beat_seconds = min(5.0, limits.silent_seconds / 4, limits.stalled_seconds / 4, limits.task_seconds / 4)
        self.noticeable_seconds = max(NOTICEABLE_SECONDS, NOTICEABLE_SHARE * limits.stalled_seconds)
        self.watched = threading.main_thread().ident
        self.begun: float | None = None
        self.latest: float | None = None
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.beat, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to give signs."""
        self.thread.start()

    def stop(self) -> None:
        """Say nothing more, and end nothing."""
        self.is_over.set()
        self.thread.join()
        if self.crash_file is not None:
            faulthandler.cancel_dump_traceback_later()

    @contextlib.contextmanager
    def watching(self, *, timed: bool) -> Iterator[None]:
        """A task runs in this thread; `timed`: not longer than `task_seconds`."""
        with self.lock:
            self.watched, self.begun = threading.get_ident(), time.monotonic()
            self.latest = self.begun + self.limits.task_seconds if timed else None
            self.mark()
        try:
            yield
        finally:
            with self.lock:
                self.begun = None

    def mark(self) -> None:
        """Remember how things stand."""
        self.marked, self.computed, self.reported = time.monotonic(), computing_seconds(), reports

    def beat(self) -> None:
        """The thread."""
        while not self.is_over.is_set():
            if self.crash_file is not None:
                faulthandler.dump_traceback_later(self.limits.silent_seconds, exit=True, file=self.crash_file)
            self.sign()
            with self.lock:
                problem = self.problem()
            if problem is not None:
                self.give_up(f"{self.stack()}{problem}")
            self.is_over.wait(self.beat_seconds)

    def problem(self) -> str | None:
        """What is wrong with the task."""
        if self.begun is None:
            return None
        now = time.monotonic()
        if self.latest is not None and now > self.latest:
            return f"the task took longer than {self.limits.task_seconds:g} s"
        if computing_seconds() - self.computed >= self.noticeable_seconds or reports != self.reported:
            self.mark()
        elif now - self.marked > self.limits.stalled_seconds:
            return f"the task did nothing for {now - self.marked:.0f} s"
        return None

    def stack(self) -> str:
        """Where the task is."""
        frame = sys._current_frames().get(self.watched or 0)
        if frame is None:
            return ""
        return "Traceback (most recent call last):\n" + "".join(traceback.format_stack(frame))


def computing_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])
