"""Commands that outlive who started them, one after the other when asked.

A job is a folder in `HOME/.jobs/`:

    000007/job.json     the command, where it runs, whether it waits for the jobs before it
           state.json   waiting | running | ended | cancelled, with pid and exit code
           claimed      made once: by the worker when the command begins, or by who takes the job back
           log.txt      what the command said

A small process in a session of its own (`mamba_slm.runs.job_worker`) waits for its turn, runs the command as a terminal
would, and writes down how it ended. Nobody has to be there meanwhile: not the page, terminal or dashboard it came from.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.runs.again import PROGRAM
from mamba_slm.runs.process import is_alive, machine_identity
from mamba_slm.runs.redact import redact_command

FORMAT_VERSION = 1
FOLDER = ".jobs"
ENDED = ("ended", "cancelled", "lost")
WHEN_ASKED = (0, 130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a command that did its work, or ended because somebody asked it to."""
PYTHON = (sys.executable, "-P")
"""Modules come from the installation, as for a command in a terminal, never from the folder that the job runs in."""
KEPT_JOBS = 200
"""In a home; the oldest of those that have ended go."""
MOST_BYTES = 4 << 20
"""Of job.json and state.json."""
LONGEST_ID = 12
BEGINNING_SECONDS = 30
"""How long a job may be without a process before it counts as lost."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command, and how it is doing."""

    path: Path
    words: tuple[str, ...]
    """Begins with `mamba-slm`."""
    folder: str
    """Where relative paths of the command begin."""
    created: float
    """Seconds since 1970."""
    is_queued: bool = False
    """Whether it waits until every job before it has ended."""
    run: str | None = None
    """The run directory that it is about."""
    state: str = "waiting"
    """waiting, running, ended, cancelled, or lost: its process died without saying how it went."""
    exit_code: int | None = None
    pid: int = 0
    process_start: str | None = None

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def has_failed(self) -> bool:
        """Whether it ended otherwise than it should."""
        return self.state == "lost" or (self.exit_code is not None and self.exit_code not in WHEN_ASKED)

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def command(self) -> str:
        """For people; secrets are hidden."""
        return shlex.join(redact_command(self.words))


def start_job(
    words: Sequence[str],
    *,
    home: Path,
    folder: Path,
    run: Path | None = None,
    is_queued: bool = False,
) -> Job:
    """Start a command of ours so that it lives on without us; returns at once.

    Args:
        words: begins with `mamba-slm`.
        is_queued: wait until the jobs before it in this home have ended.

    Raises:
        UsageError: not a command of ours, or `folder` is gone.
    """
    if len(words) < 2 or words[0] != PROGRAM:
        raise UsageError(f"not a {PROGRAM} command: {shlex.join(words)}")
    if not folder.is_dir():
        raise UsageError(f"the command was to run in {folder}, which is not here", hint="go there and type it")
    prune(home)
    path = new_folder(home)
    content = {
        "format_version": FORMAT_VERSION,
        "words": list(words),
        "folder": str(folder.resolve()),
        "created": time.time(),
        "is_queued": is_queued,
        "run": None if run is None else str(run),
    }
    write_json_atomic(path / "job.json", content)
    with (path / "log.txt").open("ab") as log:
        worker = subprocess.Popen(
            [*PYTHON, "-m", "mamba_slm.runs.job_worker", str(path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    threading.Thread(target=worker.wait, name=f"job-{path.name}", daemon=True).start()  # else it stays a zombie
    return read_job(path)


def new_folder(home: Path) -> Path:
    """The next numbered folder; two processes never get the same."""
    parent = home / FOLDER
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = max((int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()), default=0) + 1
    while True:
        try:
            (parent / f"{number:06d}").mkdir(mode=0o700)
        except FileExistsError:
            number += 1
            continue
        return parent / f"{number:06d}"


def prune(home: Path) -> None:
    """Take the oldest jobs that have ended away, so that with the next one there are `KEPT_JOBS`."""
    for folder in folders_of(home)[: 1 - KEPT_JOBS]:
        with contextlib.suppress(DataError):
            if read_job(folder).state in ENDED:
                shutil.rmtree(folder, ignore_errors=True)  # another process may do the same


def folders_of(home: Path) -> list[Path]:
    """The folders of jobs, oldest first."""
    parent = home / FOLDER
    if not parent.is_dir():
        return []
    return sorted(
        (entry for entry in parent.iterdir() if entry.name.isascii() and entry.name.isdigit()),
        key=lambda entry: int(entry.name),
    )


def list_jobs(home: Path, *, most: int | None = None) -> list[Job]:
    """The jobs of a home, or the newest `most` of them, oldest first; damaged ones are left out."""
    found = []
    for entry in folders_of(home)[-most if most else None :]:
        try:
            found.append(read_job(entry))
        except DataError:
            continue
    return found


def find_job(home: Path, id: str) -> Job:
    """The job of that number.

    Raises:
        UsageError: there is none.
    """
    if not id.isdigit() or not id.isascii() or len(id) > LONGEST_ID or not (home / FOLDER / id / "job.json").is_file():
        raise UsageError(f"there is no job {id!r}")
    return read_job(home / FOLDER / id)


def read_job(path: Path) -> Job:
    """The job in a folder.

    Raises:
        DataError: it is damaged or not there.
    """
    job, lives = as_written(path)
    if not lives:  # unless its last words came between reading them and looking for its process
        job, lives = as_written(path)
    return job if lives else Job(**{**job.__dict__, "state": "lost"})


def as_written(path: Path) -> tuple[Job, bool]:
    """A job as its files say, and whether it has ended or its process is there.

    Raises:
        DataError: it is damaged or not there.
    """
    content, state = read_object(path / "job.json"), {}
    if (path / "state.json").exists():
        state = read_object(path / "state.json")
    try:
        job = Job(
            path=path,
            words=words_in(content["words"]),
            folder=str(content["folder"]),
            created=float(content["created"]),
            is_queued=bool(content["is_queued"]),
            run=None if content.get("run") is None else str(content["run"]),
            state=str(state.get("state", "waiting")),
            exit_code=None if state.get("exit_code") is None else int(state["exit_code"]),
            pid=int(state.get("pid", 0)),
            process_start=state.get("process_start"),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path / 'job.json'} is damaged: {error}") from error
    return job, job.state in ENDED or worker_lives(job, state)


def words_in(value: object) -> tuple[str, ...]:
    """The command of a job.

    Raises:
        ValueError: it is none of ours: nothing else is started, shown or begun again.
    """
    if not isinstance(value, list) or len(value) < 2 or value[0] != PROGRAM:
        raise ValueError(f"words are not a {PROGRAM} command")
    if any("\0" in str(word) for word in value):
        raise ValueError("no word of a command holds a NUL")
    return tuple(map(str, value))


def worker_lives(job: Job, state: dict[str, Any]) -> bool:
    """Whether the process of the job is there, or may still be on its way."""
    if not job.pid:
        return time.time() - job.created < BEGINNING_SECONDS
    if state.get("machine") != machine_identity():
        return True  # nobody here can tell
    return is_alive(job.pid, job.process_start) is not False


def write_state(path: Path, **state: Any) -> None:
    """Replace `state.json`."""
    write_json_atomic(path / "state.json", state)


def cancel_job(job: Job) -> bool:
    """Take back a job that still waits; False when it began or ended already."""
    return job.state == "waiting" and claim(job)


def claim(job: Job) -> bool:
    """Decide what becomes of a waiting job: of its worker, which begins it, and who takes it back, one gets True."""
    try:
        (job.path / "claimed").touch(exist_ok=False)
    except OSError:  # there already, or the whole job is gone
        return False
    return True


def end_job(job: Job) -> bool:
    """Ask the command of a running job to end, as SIGTERM does; False when it does not run on this machine."""
    if job.state != "running" or is_alive(job.pid, job.process_start) is not True:
        return False
    os.kill(job.pid, signal.SIGTERM)  # the worker passes it on
    return True


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        DataError: it is not one.
    """
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:  # a pipe would keep us waiting
            raise DataError(f"{path} is no file of a job")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object")
    return value


def job_summary(job: Job) -> dict[str, Any]:
    """For JSON."""
    row = asdict(job) | {"id": job.id, "command": job.command, "has_failed": job.has_failed, "log": str(job.log_file)}
    return {key: os.fspath(value) if isinstance(value, Path) else value for key, value in row.items() if key != "words"}
