"""Which machine this is and whether a process still lives, safe against pids that were given to another process."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
from pathlib import Path

PROC = Path("/proc")


@functools.lru_cache(maxsize=1)
def machine_identity() -> str:
    """Host name, boot and pid namespace: two processes with the same identity see each other's pids.

    A container, a reboot or another host of the same name gives another identity.
    """
    boot = read_text(PROC / "sys/kernel/random/boot_id") or output_of("sysctl", "-n", "kern.bootsessionuuid") or "-"
    try:
        namespace = os.readlink(PROC / "self/ns/pid")
    except OSError:
        namespace = "-"
    return f"{socket.gethostname()} {boot} {namespace}"


def process_start(pid: int) -> str | None:
    """When process `pid` started, as an opaque text that no later process with this pid shares.

    Returns: None when there is no such process, it is a zombie, or neither /proc nor `ps` tells.
    """
    if (PROC / "self/stat").exists():
        return start_from_proc(pid)
    return start_from_ps(pid)


def start_from_proc(pid: int) -> str | None:
    """Clock ticks between boot and start, from /proc/PID/stat (Linux)."""
    stat = read_text(PROC / str(pid) / "stat")
    if stat is None:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before ")" may hold spaces and brackets
    return None if fields[0] in "ZX" else f"ticks {fields[19]}"


def start_from_ps(pid: int) -> str | None:
    """Date and time of the start, from `ps` (macOS and other POSIX systems; whole seconds)."""
    state_and_start = output_of("ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid))
    if not state_and_start or state_and_start[0] in "ZX":
        return None
    return " ".join(state_and_start.split()[1:])


def is_alive(pid: int, start: str | None) -> bool | None:
    """Whether the process that had `pid` and `start` (of `process_start`) still runs on this machine.

    Returns: None when that cannot be told: a process has this pid, but its start is unknown now or was then.
    """
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to somebody else
    now = process_start(pid)
    if now is None and is_zombie(pid):
        return False
    return None if start is None or now is None else now == start


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and only waits for its parent to notice."""
    stat = read_text(PROC / str(pid) / "stat")
    state = stat.rpartition(")")[2].split()[0] if stat else output_of("ps", "-o", "stat=", "-p", str(pid)) or "?"
    return state[0] in "ZX"


def read_text(path: Path) -> str | None:
    """The stripped content of a file of /proc, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def output_of(*command: str) -> str | None:
    """Stripped output of a small program, in the C locale and UTC; None when it is absent or fails."""
    try:
        finished = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()
