"""One process owns a run directory.

`lock.json` is created exclusively and names its owner: machine, pid, start time of the process, and a random token. A
second process

- on the same machine asks the kernel: a dead owner's lock is taken over at once, whoever has its pid now;
- elsewhere (another host, container, or before a reboot) looks at the heartbeat: the owner touches the file every
  `HEARTBEAT_SECONDS`, and a lock untouched for `STALE_SECONDS` counts as dead.

Either way the takeover is said. An owner that was suspended and has lost its lock finds out in `assert_owned`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import RunLockedError
from mamba_slm.core.units import format_seconds
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.process import is_alive, machine_identity, process_start

FORMAT_VERSION = 1
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # NFS clients may show a file's time up to 60 s late (acregmax)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a lock, as its file says."""

    format_version: int = FORMAT_VERSION
    pid: int = 0
    """0 when the file is unreadable; then only the heartbeat counts."""

    process_start: str | None = None
    machine: str = ""
    host: str = "an unknown host"
    command: str = ""
    since: float = 0.0
    """When the lock was taken, in seconds since 1970."""

    token: str = ""

    def describe(self) -> str:
        """For messages: `process 4242 on host (mamba-slm train …)`."""
        command = f" ({self.command})" if self.command else ""
        return f"process {self.pid or 'unknown'} on {self.host}{command}"


def read_owner(lock_file: Path) -> Owner | None:
    """Who holds the lock; None when nobody does. An unreadable lock gives an unknown owner."""
    if lock_file.exists() and not lock_file.is_file():  # reading a pipe or device would not end
        return Owner()
    try:
        content = json.loads(lock_file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return Owner()
    if not isinstance(content, dict):
        return Owner()
    return Owner(**{field.name: content[field.name] for field in fields(Owner) if field.name in content})


def owner_is_alive(lock_file: Path, owner: Owner) -> bool:
    """Whether the owner still works on the run: by the kernel on the same machine, else by the heartbeat."""
    if owner.machine == machine_identity():
        alive = is_alive(owner.pid, owner.process_start)
        if alive is not None:
            return alive
    return heartbeat_age_seconds(lock_file) < STALE_SECONDS


def heartbeat_age_seconds(lock_file: Path) -> float:
    """Seconds since the owner last touched its lock, on the file server's clock; infinite when there is no lock.

    Hosts disagree about the time, so "now" is the time the file system gives to a file written now.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=lock_file.parent, prefix=".clock.") as probe:
            now = os.stat(probe.name).st_mtime
    except OSError:  # a folder we may only read
        now = time.time()
    try:
        return now - lock_file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def live_owner(run: str | os.PathLike[str]) -> Owner | None:
    """The living process that owns the run, or None."""
    lock_file = RunDirectory(Path(run)).lock_file
    owner = read_owner(lock_file)
    return owner if owner is not None and owner_is_alive(lock_file, owner) else None


class RunLock:
    """Owns a run directory while it is held: `with RunLock(run): …`.

    Args:
        run: the run directory; must exist.
        command: what the owner does, shown to whoever is refused.
        say: told about a takeover; by default a line on stderr.

    While held, a thread touches the lock, and turns a stop request of another host (`runs.control`) into SIGINT.
    """

    def __init__(self, run: str | os.PathLike[str], *, command: str = "", say: Callable[[str], None] | None = None):
        self.run = RunDirectory(Path(run))
        self.taken_over_from: Owner | None = None
        """The dead owner whose lock was replaced, or None."""

        self._command = command
        self._say = say or (lambda text: print(text, file=sys.stderr))
        self._owner: Owner | None = None
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the lock, from a dead owner if need be.

        Raises:
            RunLockedError: a living process holds it; names that process.
        """
        owner = Owner(
            pid=os.getpid(),
            process_start=process_start(os.getpid()),
            machine=machine_identity(),
            host=socket.gethostname(),
            command=self._command,
            since=time.time(),
            token=secrets.token_hex(8),
        )
        lock_file = self.run.lock_file
        with one_at_a_time(self.run.path):
            present = read_owner(lock_file)
            if present is not None:
                if owner_is_alive(lock_file, present):
                    raise self._refusal(present)
                lock_file.unlink()
            try:
                create_exclusively(lock_file, json.dumps(asdict(owner), indent=2).encode() + b"\n")
            except FileExistsError as error:
                raise self._refusal(read_owner(lock_file) or Owner()) from error
        if present is not None:
            self.taken_over_from = present
            self._say(f"{self.run.path} was left locked by {present.describe()}, which is gone: taking over")
        self._owner = owner
        self.run.stop_file.unlink(missing_ok=True)  # meant for the previous owner
        self._ended = threading.Event()
        threading.Thread(target=self._heartbeat, args=(self._ended,), name="run-lock-heartbeat", daemon=True).start()

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held, or in a forked child."""
        if self._owner is None or self._owner.pid != os.getpid():
            return
        self._ended.set()
        if self.is_owned():
            self.run.lock_file.unlink(missing_ok=True)
        self._owner = None

    def is_owned(self) -> bool:
        """Whether the file still names this very acquisition."""
        present = read_owner(self.run.lock_file)
        return self._owner is not None and present is not None and present.token == self._owner.token

    def assert_owned(self) -> None:
        """Call before writing something that two owners must not both write, such as a checkpoint.

        Raises:
            RunLockedError: the lock is gone or another's, for example after this process was suspended for long.
        """
        if not self.is_owned():
            present = read_owner(self.run.lock_file)
            raise RunLockedError(
                f"this process lost the lock of {self.run.path} to {present.describe() if present else 'nobody'}",
                hint="nothing was overwritten; look at the run with: mamba-slm runs show " + str(self.run.path),
            )

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def _refusal(self, owner: Owner) -> RunLockedError:
        age = f", since {format_seconds(max(0.0, time.time() - owner.since))}" if owner.since else ""
        stop = f"wait for it, or stop it: mamba-slm runs stop {self.run.path}"
        if owner.machine != machine_identity():
            stop += f" (a dead owner elsewhere is taken over {STALE_SECONDS:.0f} s after its last sign of life)"
        return RunLockedError(f"{self.run.path} is in use by {owner.describe()}{age}", hint=stop)

    def _heartbeat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            if not self.is_owned():
                return
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.run.lock_file)
            if self.run.stop_file.exists():
                self.run.stop_file.unlink(missing_ok=True)
                os.kill(os.getpid(), signal.SIGINT)


def create_exclusively(path: Path, data: bytes) -> None:
    """Create `path` with all its content at once; a reader never sees a part.

    Raises:
        FileExistsError: somebody was faster.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        try:
            os.link(name, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with open(path, "xb") as file:
                file.write(data)
    finally:
        os.unlink(name)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process judge and replace a lock at a time, by flock on the folder itself.

    Some network file systems refuse that. There two processes that find the same dead lock in the same instant could
    both take it; the one that lost sees so in `RunLock.assert_owned`.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def owner_summary(owner: Owner) -> dict[str, Any]:
    """What `--json` shows of an owner."""
    return {"pid": owner.pid, "host": owner.host, "command": owner.command, "since": owner.since}
