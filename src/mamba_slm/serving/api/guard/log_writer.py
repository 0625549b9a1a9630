"""Lines of a log, written by a thread of their own: a full pipe or disk holds up no request."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

MOST_LINES = 10_000


class LogWriter:
    """Takes lines at once and writes them in order; drops and counts what comes when too many wait."""

    def __init__(self, write: Callable[[str], None]):
        """
        Args:
            write: one line, without its end; may block.
        """
        self._write = write
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="mamba-slm-log", daemon=True)
        self._thread.start()

    def __call__(self, line: str) -> None:
        """Take a line; never waits."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self, *, seconds: float = 2.0) -> None:
        """Write what is there, as far as that is possible in time."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=seconds)
            self._thread.join(timeout=seconds)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._write(f"{dropped:,} lines were dropped here: they could not be written, or not fast enough")
            except OSError:  # a full disk, or nobody at the other end: there is nowhere to tell it but a later line
                self._dropped += 1
