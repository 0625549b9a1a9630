"""Asking the owner of a run to stop: as Ctrl-C would, finishing the step and saving."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.core.files import write_text_atomic
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import Owner, live_owner
from mamba_slm.runs.process import is_alive, machine_identity

Asked = Literal["signal", "file", "before", "idle"]
"""How an owner was asked to stop, see `request_stop`."""


def request_stop(run: str | os.PathLike[str], *, again: bool = False) -> Asked:
    """Ask the living owner of `run` to stop.

    Args:
        again: ask even if this owner was asked before; a trainer then aborts without saving, as at a second Ctrl-C.

    Returns: how it was asked: `signal` (SIGINT, on this machine), `file` (`control/stop`, which an owner elsewhere
        finds within `lock.HEARTBEAT_SECONDS`), `before` (it was asked already, and is not disturbed a second time), or
        `idle`: nobody owns the run.

    Raises:
        MambaSlmError: the owner belongs to another user.
    """
    directory = RunDirectory(Path(run))
    owner = live_owner(directory)
    if owner is None:
        return "idle"
    if not again and asked_before(directory, owner):
        return "before"
    write_text_atomic(directory.asked_file, owner.token + "\n")
    if owner.machine != machine_identity() or owner.pid == 0:
        write_text_atomic(directory.stop_file, "stop\n")
        return "file"
    try:
        return "signal" if interrupt(owner) else "idle"
    except PermissionError as error:
        raise MambaSlmError(
            f"may not interrupt {owner.describe()}: it belongs to another user",
            hint="ask its user to press Ctrl-C, or run this command as that user",
        ) from error


def asked_before(run: RunDirectory, owner: Owner) -> bool:
    """Whether this very owner was asked to stop already."""
    return run.asked_file.is_file() and run.asked_file.read_text(encoding="utf-8").strip() == owner.token


def interrupt(owner: Owner) -> bool:
    """Send SIGINT to the owner, and to nobody who got its pid since; False when it has ended."""
    if not hasattr(os, "pidfd_open"):
        alive = is_alive(owner.pid, owner.process_start) is not False
        if alive:
            os.kill(owner.pid, signal.SIGINT)
        return alive
    try:
        descriptor = os.pidfd_open(owner.pid)  # from here on the descriptor means this one process
    except ProcessLookupError:
        return False
    try:
        if is_alive(owner.pid, owner.process_start) is False:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGINT)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_until_free(run: str | os.PathLike[str], *, timeout_seconds: float) -> bool:
    """Wait until nobody owns the run; False when somebody still does after `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while live_owner(run) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True
