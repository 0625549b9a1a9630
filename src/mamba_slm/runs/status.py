"""`status.json`: how a run is doing, small enough to rewrite often."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from mamba_slm.core.errors import DataError, MambaSlmError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.runs.format_version import Migration, read_versioned_json
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import live_owner

FORMAT_VERSION = 1
MIGRATIONS: dict[int, Migration] = {}

State = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the owner of a run last said about it."""

    state: State
    step: int = 0
    """Optimizer steps taken."""

    pid: int = 0
    heartbeat: float = 0.0
    """When this was written, in seconds since 1970."""

    message: str = ""
    """What it is doing, or why it stopped or failed, in one line."""

    def __post_init__(self):
        kinds = {"step": int, "pid": int, "heartbeat": int | float, "message": str}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise DataError(f"the {name} of a status is {getattr(self, name)!r}")
        if self.state not in get_args(State):
            raise DataError(f"{self.state!r} is not a state of a run", hint=f"known: {', '.join(get_args(State))}")


def write_status(path: Path, status: Status) -> None:
    """Replace `status.json` atomically."""
    write_json_atomic(path, {"format_version": FORMAT_VERSION, **asdict(status)})


def read_status(path: Path) -> Status | None:
    """The last status written; None when none was yet.

    Raises:
        DataError: the file is damaged.
        SetupError: written by a newer package.
    """
    if not path.exists():
        return None
    content = read_versioned_json(path, supported=FORMAT_VERSION, migrations=MIGRATIONS)
    known = {field.name: content[field.name] for field in fields(Status) if field.name in content}
    try:
        return Status(**{"state": None, **known})
    except DataError as error:
        hint = "it is damaged; delete it, the next start writes it anew"
        raise DataError(f"{path}: {error.message}", hint=hint) from error


class StatusWriter:
    """Writes the status at most once per `interval_seconds`, unless state or message change; call it every step."""

    def __init__(self, path: Path, *, interval_seconds: float = 2.0):
        self.path = path
        self._interval_seconds = interval_seconds
        self._last: Status | None = None

    def update(self, state: State, *, step: int, message: str = "") -> None:
        """Say how the run is doing now.

        Raises:
            DiskFullError: no room; the previous status stays.
        """
        now = time.time()
        last = self._last
        if (
            last is not None
            and (last.state, last.message) == (state, message)
            and 0 <= now - last.heartbeat < self._interval_seconds
        ):
            return
        self._last = Status(state=state, step=step, pid=os.getpid(), heartbeat=round(now, 3), message=message)
        write_status(self.path, self._last)


def observed_state(run: str | os.PathLike[str]) -> str:
    """What a reader should show: the written state, but `crashed` when it says running and nobody owns the run.

    Returns: one of running, done, stopped, failed, crashed, unknown (no or unreadable status).
    """
    directory = RunDirectory(Path(run))
    try:
        status = read_status(directory.status_file)
    except MambaSlmError:
        return "unknown"
    if status is None:
        return "unknown"
    return "crashed" if status.state == "running" and live_owner(directory) is None else status.state
