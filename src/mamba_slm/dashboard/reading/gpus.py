"""NVIDIA's GPUs as nvidia-smi tells them; none where that is not installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FRESH_SECONDS = 3.0
PROGRAM = "nvidia-smi"
FIELDS = {
    "index": "index",
    "name": "name",
    "busy_percent": "utilization.gpu",
    "used_mib": "memory.used",
    "total_mib": "memory.total",
    "celsius": "temperature.gpu",
    "watts": "power.draw",
}
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """All GPUs at one time."""

    cards: list[dict[str, Any]] = field(default_factory=list)
    """index, name, busy_share, used_bytes, total_bytes, celsius, watts; None where the driver does not say."""
    bytes_by_pid: dict[int, int] = field(default_factory=dict)
    """Memory that processes hold; in a container the driver may give pids of the machine around it."""
    problem: str | None = None
    """Why there is nothing, where there should be."""


class GpuReader:
    """Asks nvidia-smi, but not more often than every few seconds: it takes a good part of one."""

    def __init__(self) -> None:
        self._at, self._last = float("-inf"), Gpus()

    def read(self) -> Gpus:
        """The GPUs now, or a moment ago."""
        if time.monotonic() - self._at >= FRESH_SECONDS:
            self._last = asked() if shutil.which(PROGRAM) else Gpus()
            self._at = time.monotonic()
        return self._last


def asked() -> Gpus:
    """Ask nvidia-smi now."""
    try:
        cards = output(f"--query-gpu={','.join(FIELDS.values())}")
        apps = output("--query-compute-apps=pid,used_memory")
    except (OSError, subprocess.SubprocessError) as error:
        return Gpus(problem=f"{PROGRAM} does not answer: {error}"[:300])
    return Gpus(cards=[card_of(row) for row in rows_of(cards, len(FIELDS))], bytes_by_pid=by_pid(rows_of(apps, 2)))


def output(query: str) -> str:
    """What nvidia-smi prints."""
    command = [PROGRAM, query, "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=True).stdout


def rows_of(text: str, columns: int) -> list[list[str]]:
    """Cells of its lines; lines of another length are messages."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [row for row in rows if len(row) == columns]


def card_of(cells: Sequence[str]) -> dict[str, Any]:
    """One GPU."""
    said = dict(zip(FIELDS, cells, strict=True))
    numbers = {name: number_of(text) for name, text in said.items() if name not in ("index", "name")}
    return {
        "index": said["index"],
        "name": said["name"],
        "busy_share": scaled(numbers["busy_percent"], 0.01),
        "used_bytes": scaled(numbers["used_mib"], MIB),
        "total_bytes": scaled(numbers["total_mib"], MIB),
        "celsius": numbers["celsius"],
        "watts": numbers["watts"],
    }


def by_pid(rows: Sequence[Sequence[str]]) -> dict[int, int]:
    """Bytes by pid, of all GPUs together."""
    found: dict[int, int] = {}
    for pid, mib in rows:
        held = number_of(mib)
        if pid.isdigit() and held is not None:
            found[int(pid)] = found.get(int(pid), 0) + int(held * MIB)
    return found


def number_of(text: str) -> float | None:
    """A number; None for `[N/A]` and the like."""
    try:
        return float(text)
    except ValueError:
        return None


def scaled(value: float | None, by: float) -> float | None:
    """A number in another unit."""
    return None if value is None else value * by
