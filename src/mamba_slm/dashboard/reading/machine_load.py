"""How busy this machine is: processor, memory, GPUs, disks, and who uses them. From /proc; None where there is none."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.gpus import GpuReader
from mamba_slm.dashboard.reading.processes import Owner, Process, processes, who
from mamba_slm.runs.machine import CGROUP, usable_cores, usable_memory_bytes
from mamba_slm.runs.process import PROC, read_text

MOST_POINTS = 900
LEAST_SECONDS = 1.5


class MachineLoad:
    """Looks not more often than needed, however many pages ask; remembers the last looks for the curves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gpus = GpuReader()
        self._ticks: tuple[float, float] | None = None
        self._points: deque[dict[str, Any]] = deque(maxlen=MOST_POINTS)
        self._before: tuple[float, dict[int, Process]] | None = None
        self._rows: tuple[float, list[dict[str, Any]]] = (float("-inf"), [])

    def brief(self) -> dict[str, Any]:
        """Processor, memory and GPUs now: a point of the curves."""
        with self._lock:
            last = self._points[-1] if self._points else None
            if last is None or time.time() - last["at"] >= LEAST_SECONDS:
                self._points.append(self._point())
            return self._points[-1]

    def points(self, after: float) -> list[dict[str, Any]]:
        """What was seen after a time, in seconds since 1970."""
        with self._lock:
            return [point for point in self._points if point["at"] > after]

    def who(self, owners: Callable[[], Sequence[Owner]]) -> list[dict[str, Any]]:
        """Who uses what; the first look has no shares of the processor."""
        with self._lock:
            now = time.monotonic()
            if now - self._rows[0] >= LEAST_SECONDS:
                found = processes()
                since, before = self._before or (None, {})
                seconds = None if since is None else now - since
                rows = who(found, before, seconds, owners(), self._gpus.read().bytes_by_pid)
                self._before, self._rows = (now, found), (now, rows)
            return self._rows[1]

    def _point(self) -> dict[str, Any]:
        ticks, before = processor_ticks(), self._ticks
        self._ticks = ticks
        busy = None
        if ticks is not None and before is not None and ticks[1] > before[1]:
            busy = min(1.0, max(0.0, (ticks[0] - before[0]) / (ticks[1] - before[1])))
        used, total = memory_in_use()
        gpus = self._gpus.read()
        shares = [card["busy_share"] for card in gpus.cards if card["busy_share"] is not None]
        return {
            "at": time.time(),
            "busy_share": busy,
            "used_bytes": used,
            "total_bytes": total,
            "gpus": gpus.cards,
            "gpu_problem": gpus.problem,
            "gpu_share": sum(shares) / len(shares) if shares else None,
        }


def processor_ticks(proc: Path = PROC) -> tuple[float, float] | None:
    """Busy and all ticks of all processors since the machine's start; None without /proc/stat."""
    text = read_text(proc / "stat")
    first = text.splitlines()[0].split() if text else []
    if not first or first[0] != "cpu" or len(first) < 6:
        return None
    ticks = [float(value) for value in first[1:9]]  # what follows (guest) is counted in user and nice, too
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def memory_in_use(proc: Path = PROC, cgroup: Path = CGROUP) -> tuple[int | None, int | None]:
    """Bytes in use that cannot be had back at once, and all bytes: of the container where it has a limit."""
    known = dict(re.findall(r"^(\w+):\s+(\d+) kB", read_text(proc / "meminfo") or "", flags=re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= set(known):
        return None, usable_memory_bytes()
    total, free = 1024 * int(known["MemTotal"]), 1024 * int(known["MemAvailable"])
    limit, current = read_text(cgroup / "memory.max") or "", read_text(cgroup / "memory.current") or ""
    if limit.isdigit() and current.isdigit() and int(limit) < total:
        cached = re.search(r"^inactive_file (\d+)", read_text(cgroup / "memory.stat") or "", flags=re.MULTILINE)
        return max(0, int(current) - int(cached[1] if cached else 0)), int(limit)
    return total - free, total


def processors() -> dict[str, Any]:
    """How many this process may use, how many there are, and how long the queue for them is."""
    try:
        waiting = os.getloadavg()[0]
    except OSError:
        waiting = None
    return {"usable": usable_cores(), "all": os.cpu_count(), "load": waiting}


def disks(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The file systems of some folders, each once."""
    found: dict[int, dict[str, Any]] = {}
    for folder in folders:
        try:
            device, use = folder.stat().st_dev, shutil.disk_usage(folder)
        except OSError:
            continue
        row = {"path": str(folder), "used_bytes": use.used, "free_bytes": use.free, "total_bytes": use.total}
        found.setdefault(device, row)
    return list(found.values())
