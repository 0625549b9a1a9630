"""Signs of life through the file system, for workers that share nothing else with their engine.

While a task runs there is a file for it: its time of change is the sign, its first line is the process, and what
follows, where the task hung or crashed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import time
from pathlib import Path

from mamba_slm.data.engine.attempt import obeyed
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.outcome import Failure, Outcome, death, failure_of
from mamba_slm.data.engine.watchdog import Watchdog

HUNG_STATUS = 70
GAVE_UP = "gave up\n"
C_CODE_HUNG = "Timeout ("
"""How faulthandler begins to tell where a task was that never let Python run."""


def obeyed_with_signs(data: bytes, limits: EngineLimits, path: Path) -> Outcome:
    """Worker: do what an order says, with a file for signs of life."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.write(f"process {os.getpid()}\n")
            file.flush()

            def give_up(problem: str) -> None:
                os.write(file.fileno(), f"{GAVE_UP}{problem}\n".encode())
                os._exit(HUNG_STATUS)

            watchdog = Watchdog(limits, sign=lambda: os.utime(file.fileno()), give_up=give_up, crash_file=file)
            watchdog.start()
            was_enabled = faulthandler.is_enabled()
            faulthandler.enable(file)
            try:
                return obeyed(data, watchdog)
            finally:
                watchdog.stop()
                faulthandler.disable()
                if was_enabled:
                    faulthandler.enable()
                path.unlink(missing_ok=True)
    except OSError as error:
        return Outcome(seconds=0.0, failure=failure_of(error))


class SignFile:
    """Engine: what is known of an attempt through its file."""

    def __init__(self, path: Path, limits: EngineLimits):
        self.path, self.limits = path, limits
        self.begun = self.heard = self.looked = time.monotonic()
        self.changed: int | None = None
        """The time of the last sign by the clock of the file system: never compared with ours, only with itself."""

    @property
    def is_silent(self) -> bool:
        """Whether a worker has begun, and then gave no sign for too long while this process looked."""
        now = time.monotonic()
        if now - self.looked > self.limits.silent_seconds:  # this process was stopped, and the worker perhaps, too
            self.heard = now
        self.looked = now
        with contextlib.suppress(OSError):
            changed = self.path.stat().st_mtime_ns
            if changed != self.changed:
                self.changed, self.heard = changed, now
        return self.changed is not None and now - self.heard > self.limits.given_up_seconds

    def fell_silent(self) -> Outcome:
        """The attempt of a worker that was given up."""
        text = f"the worker gave no sign of life for {time.monotonic() - self.heard:.0f} s"
        return self.over(Failure(kind="passing", text=f"{self.said()}\n{text}".strip()))

    def died(self, details: str = "") -> Outcome:
        """The attempt of a worker that is gone.

        Args:
            details: what else is known about it.
        """
        said = self.said()
        if said.startswith(GAVE_UP):
            return self.over(Failure(kind="passing", text=said.removeprefix(GAVE_UP)))
        failure = death(None, f"{said}\n{details}")
        return self.over(Failure(kind="passing", text=failure.text) if said.startswith(C_CODE_HUNG) else failure)

    def over(self, failure: Failure) -> Outcome:
        """The outcome; the file goes."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        return Outcome(seconds=time.monotonic() - self.begun, failure=failure)

    def said(self) -> str:
        """What is in the file after its first line."""
        with contextlib.suppress(OSError):
            return self.path.read_text(errors="replace").partition("\n")[2].strip()
        return ""


def delete_sign_files(folder: Path) -> None:
    """Forget the workers of a killed engine."""
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)
