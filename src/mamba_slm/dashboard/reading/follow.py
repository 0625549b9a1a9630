"""Reading a growing .jsonl file in increments, such that nothing is missed and nothing comes twice.

A position is where in which file one has read to, and a checksum of the bytes before. It needs no memory on our side:
a page keeps it, and it holds across restarts of either. A run that is resumed cuts rows off its files; then the
position does not fit any more, and the page is told to begin anew.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.runs.jsonl import parse_row

MOST_BYTES = 1 << 20
"""In one increment; who is further behind begins anew, with a downsampled whole."""

CHECKED_BYTES = 256


@dataclass(frozen=True)
class Position:
    """Up to where a file was read; always the end of a complete row."""

    inode: int = 0
    offset: int = 0
    checksum: int = 0
    """CRC-32 of the last `CHECKED_BYTES` before `offset`."""

    def __str__(self) -> str:
        return f"{self.inode}.{self.offset}.{self.checksum}"

    @classmethod
    def parse(cls, text: str | None) -> Position | None:
        """The position that `str` wrote; None for anything else."""
        match = re.fullmatch(r"(\d{1,20})\.(\d{1,18})\.(\d{1,10})", text or "", flags=re.ASCII)
        return None if match is None else cls(*map(int, match.groups()))


@dataclass(frozen=True)
class Increment:
    """Rows after a position."""

    rows: list[dict[str, Any]]
    position: Position
    """Where to go on."""
    fits: bool = True
    """False: the position asked for is not of this file any more, or too far back; `rows` is empty."""


def follow(path: Path, position: Position) -> Increment:
    """The complete rows of `path` after `position`. A damaged line is passed over; no file is an empty one."""
    try:
        file = open_plain(path)
    except OSError:
        return Increment([], Position(), fits=position == Position())
    with file:
        found = os.fstat(file.fileno())
        if not fits(file, found, position):
            return Increment([], position, fits=False)
        if found.st_size - position.offset > MOST_BYTES:
            return Increment([], position, fits=False)
        file.seek(position.offset)
        data = file.read(found.st_size - position.offset)
        complete = data[: data.rfind(b"\n") + 1]
        rows = [row for line in complete.split(b"\n")[:-1] if (row := parse_row(line)) is not None]
        end = position.offset + len(complete)
        return Increment(rows, Position(found.st_ino, end, checksum_before(file, end)))


def fits(file: Any, found: os.stat_result, position: Position) -> bool:
    """Whether the position is one in this file."""
    if position.offset == 0:
        return True
    if found.st_ino != position.inode or found.st_size < position.offset:
        return False
    return checksum_before(file, position.offset) == position.checksum


def checksum_before(file: Any, offset: int) -> int:
    """CRC-32 of the bytes just before `offset`."""
    start = max(0, offset - CHECKED_BYTES)
    file.seek(start)
    return zlib.crc32(file.read(offset - start))
