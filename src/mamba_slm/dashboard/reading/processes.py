"""The processes of this machine, as /proc lists them, and those among them that are ours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.runs.process import PROC

MOST_OTHERS = 6
Processes = Mapping[int, "Process"]


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process now."""

    pid: int
    parent: int
    name: str
    """Of its program; not its command line, in which there may be secrets."""
    start: str
    """Clock ticks between boot and its start: with the pid, what no other process has."""
    cpu_seconds: float
    """That it has used."""
    memory_bytes: int
    """Resident; pages that it shares with others count in each of them."""
    threads: int


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Something of ours that runs."""

    what: str
    """For people: a run's name, or a command."""
    pid: int
    """Of its first process; those that it started count with it."""
    path: str = ""
    """Of its page, below the root; empty when it has none."""


def processes(proc: Path = PROC) -> dict[int, Process]:
    """All of them by pid; none where the system has no /proc."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = {}
    try:
        names = [entry.name for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return {}
    for name in names:
        try:
            head, _, rest = (proc / name / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
            fields = rest.split()
            found[int(name)] = Process(
                pid=int(name),
                parent=int(fields[1]),
                name=head.partition("(")[2],
                start=fields[19],
                cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
                memory_bytes=int(fields[21]) * page,
                threads=int(fields[17]),
            )
        except (OSError, IndexError, ValueError):  # it has ended meanwhile
            continue
    return found


def below(all_of_them: Processes, pids: Iterable[int]) -> set[int]:
    """These processes and all that they started."""
    children: dict[int, list[int]] = {}
    for process in all_of_them.values():
        children.setdefault(process.parent, []).append(process.pid)
    waiting, found = [pid for pid in pids if pid in all_of_them], set()
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def who(
    now: Processes,
    before: Processes,
    seconds: float | None,
    owners: Sequence[Owner],
    gpu_bytes: Mapping[int, int],
) -> list[dict[str, Any]]:
    """What each of ours uses, then the largest others.

    Args:
        before: an earlier look, `seconds` ago (None: there is none).
        owners: the first that a process belongs to counts it.
        gpu_bytes: memory of GPUs by pid.
    """
    rows, counted = [], set()
    for owner in owners:
        pids = below(now, [owner.pid]) - counted
        if pids:
            counted |= pids
            row = {"what": owner.what, "path": owner.path, "pid": owner.pid, "is_ours": True}
            rows.append(row | use(now, before, seconds, pids, gpu_bytes))
    others = sorted(
        (process for pid, process in now.items() if pid not in counted),
        key=lambda process: (gpu_bytes.get(process.pid, 0), process.memory_bytes),
        reverse=True,
    )
    for process in others[:MOST_OTHERS]:
        if process.memory_bytes:
            row = {"what": process.name, "path": "", "pid": process.pid, "is_ours": False}
            rows.append(row | use(now, before, seconds, {process.pid}, gpu_bytes))
    return rows


def use(
    now: Processes, before: Processes, seconds: float | None, pids: set[int], gpu_bytes: Mapping[int, int]
) -> dict[str, Any]:
    """What some processes use together; `cores` is how many they kept busy since the earlier look."""
    spent = 0.0
    for pid in pids:
        earlier = before.get(pid)
        is_same = earlier is not None and earlier.start == now[pid].start
        spent += now[pid].cpu_seconds - (earlier.cpu_seconds if earlier is not None and is_same else 0.0)
    held = [gpu_bytes[pid] for pid in pids if pid in gpu_bytes]
    return {
        "processes": len(pids),
        "threads": sum(now[pid].threads for pid in pids),
        "memory_bytes": sum(now[pid].memory_bytes for pid in pids),
        "cores": max(0.0, spent / seconds) if seconds else None,
        "gpu_bytes": sum(held) if held else None,
    }
