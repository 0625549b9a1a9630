"""The training rows of a run as columns, kept up to date by increments, and thinned so that no spike disappears.

100,000 rows → at most `most` buckets of equal count; each has its mean, smallest and largest value.
"""

from __future__ import annotations

import math
import os
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.follow import MOST_BYTES, Position, checksum_before, follow
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.runs.evidence import number
from mamba_slm.runs.jsonl import parse_row

AXES = ("step", "tokens", "seconds")
MEASURES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_bytes")
VALIDATION = ("step", "tokens", "loss", "bits_per_byte")
MOST_POINTS = 600
DIGITS = 7
KEPT_RUNS = 32

Series = dict[str, Any]


class RunSeries:
    """The numbers of one run's metrics.jsonl. Safe to use from several threads."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._position = Position()
        self._columns = {name: array("d") for name in (*AXES, *MEASURES)}
        self._validation: list[dict[str, Any]] = []

    def _update(self) -> None:
        while True:
            increment = follow(self.path, self._position)
            if not increment.fits and self._position != Position():
                self._forget()
                continue
            if not increment.fits:  # a long file: in large pieces
                self._read_all()
                increment = follow(self.path, self._position)
                if not increment.fits:  # ends in more than a piece without a line end: what a power cut leaves
                    return
            self._take(increment.rows)
            self._position = increment.position
            return

    def _read_all(self) -> None:
        """All but the last piece of a file that is too long for one increment."""
        with open_plain(self.path) as file:
            end = file.seek(0, 2)
            file.seek(0)
            while end - file.tell() > MOST_BYTES // 2 and (lines := file.readlines(MOST_BYTES // 2)):
                rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
                self._take([row for line in lines if (row := parse_row(line)) is not None])
                if rest:
                    file.seek(-len(rest), 1)
                    break
            self._position = self._position_at(file, file.tell())

    @staticmethod
    def _position_at(file: Any, offset: int) -> Position:
        return Position(os.fstat(file.fileno()).st_ino, offset, checksum_before(file, offset))

    def _take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if not isinstance(row.get("step"), int):
                continue
            if row.get("kind") == "train":
                for name, column in self._columns.items():
                    value = number(row, name)
                    column.append(math.nan if value is None else value)
            elif row.get("kind") == "validation":
                self._validation.append({name: number(row, name) for name in VALIDATION})

    def read(self, *, first: float | None = None, last: float | None = None, most: int = MOST_POINTS) -> Series:
        """The series from step `first` to `last`, in at most `most` points, and the position that they reach.

        Returns: `count` rows there are; columns `step`, `tokens`, `seconds`; for each measure `mean`, and `low` and
            `high` where a point stands for several rows; `validation` rows; `position` as text. NaN is None.
        """
        with self._lock:
            self._update()
            steps = self._columns["step"]
            begin = 0 if first is None else bisect_left(steps, first)
            end = len(steps) if last is None else bisect_right(steps, last)
            borders = buckets(begin, end, most)
            found: Series = {"count": end - begin, "position": str(self._position)}
            for name in AXES:
                column = self._columns[name]
                found[name] = [plain(column[stop - 1]) for _, stop in borders]
            for name in MEASURES:
                found[name] = thinned(self._columns[name], borders, is_thin=end - begin > len(borders))
            found["validation"] = [row for row in self._validation if within(row["step"], first, last)]
            return found


def buckets(begin: int, end: int, most: int) -> list[tuple[int, int]]:
    """At most `most` parts of `range(begin, end)`, of equal size within one.

    >>> buckets(2, 7, 2)
    [(2, 4), (4, 7)]
    """
    count = end - begin
    parts = min(count, max(most, 1))
    return [(begin + part * count // parts, begin + (part + 1) * count // parts) for part in range(parts)]


def thinned(column: array[float], borders: Sequence[tuple[int, int]], *, is_thin: bool) -> Series:
    """Mean of each bucket, with smallest and largest when buckets hold more than one row."""
    if not is_thin:
        return {"mean": [plain(column[begin]) for begin, _ in borders]}
    mean: list[float | None] = []
    low: list[float | None] = []
    high: list[float | None] = []
    for begin, end in borders:
        part = column[begin:end]
        total = math.fsum(part)
        if math.isnan(total):
            part = array("d", (value for value in part if not math.isnan(value)))
            total = math.fsum(part)
        if not part:
            for each in (mean, low, high):
                each.append(None)
            continue
        mean.append(plain(total / len(part)))
        low.append(plain(min(part)))
        high.append(plain(max(part)))
    return {"mean": mean, "low": low, "high": high}


def within(value: float | None, first: float | None, last: float | None) -> bool:
    """Whether `first` ≤ `value` ≤ `last`; None is no border."""
    return value is not None and (first is None or value >= first) and (last is None or value <= last)


def plain(value: float) -> float | int | None:
    """A number for JSON, with as many digits as a chart can show; None for NaN."""
    if math.isnan(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.{DIGITS}g}")


class SeriesOfRuns:
    """The series of the runs looked at last; the others are forgotten, and read again when needed."""

    def __init__(self, *, most: int = KEPT_RUNS):
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[Path, RunSeries] = OrderedDict()

    def of(self, path: Path) -> RunSeries:
        """The series of the metrics file at `path`."""
        with self._lock:
            found = self._kept.setdefault(path, RunSeries(path))
            self._kept.move_to_end(path)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return found
