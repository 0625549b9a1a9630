"""Append-only JSON lines that survive a kill at any byte.

A row is written with one system call. A kill can leave at most one half-written last line: readers leave it out, the
writer cuts it off when it reopens the file. NaN and infinity, which JSON does not have, are written as null: the file
must survive the very event it is there to record.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import disk_full_is_explained, fsync_folder

TAIL_BYTES = 1 << 16


def json_line(row: Mapping[str, Any]) -> bytes:
    """One row as UTF-8 JSON and a newline; NaN and infinity become null, at any depth.

    >>> json_line({"step": 3, "loss": float("nan"), "text": "ü"}).decode()
    '{"step": 3, "loss": null, "text": "ü"}\\n'

    Raises:
        TypeError: a value JSON cannot hold, such as a tensor.
    """
    # A lone surrogate (half of a decoded character) has no UTF-8; "replace" makes it a question mark.
    text = json.dumps(without_nan(dict(row)), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", errors="replace") + b"\n"


def without_nan(value: Any) -> Any:
    """The same value with NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All complete rows, oldest first; empty when there is no file yet. A half-written last line is left out.

    Raises:
        DataError: a line before the last is not a JSON object; names file and line.
    """
    return [row for row, _ in numbered_rows(path)]


def numbered_rows(path: Path) -> list[tuple[dict[str, Any], bytes]]:
    """The rows of `read_json_lines`, each with the bytes of its line."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    lines.pop()  # what follows the last newline: nothing, or half a row
    rows: list[tuple[dict[str, Any], bytes]] = []
    for number, line in enumerate(lines, start=1):
        row = parse_row(line)
        if row is not None:
            rows.append((row, line + b"\n"))
        elif number < len(lines):
            raise DataError(
                f"{path}:{number} is not a JSON object",
                hint="the file is damaged; delete that line, the other rows are complete",
            )
    return rows


def parse_row(line: bytes) -> dict[str, Any] | None:
    """The JSON object in `line`, or None."""
    try:
        row = json.loads(line, parse_constant=lambda _constant: None)  # NaN, written by another program
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def end_of_last_row(path: Path) -> int:
    """The length in bytes of `path` without an unfinished or unreadable last line (a power cut can leave zeros)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        reach = min(TAIL_BYTES, size)
        while True:
            file.seek(size - reach)
            tail = file.read(reach)
            end = tail.rfind(b"\n") + 1
            start = tail.rfind(b"\n", 0, max(end - 1, 0)) + 1
            if start > 0 or reach == size:
                break
            reach = min(2 * reach, size)
    if end == 0:
        return 0
    return size - reach + (end if parse_row(tail[start:end]) is not None else start)


class JsonLinesWriter:
    """Appends rows; opening it cuts off what a kill left half-written. Use as a context manager or `close()` it.

    Raises:
        DiskFullError: no room; the file ends with its last complete row.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.cut_bytes = 0
        """How much of a half-written line was cut off on opening."""
        existed = self.path.exists()
        if existed:
            complete = end_of_last_row(self.path)
            self.cut_bytes = self.path.stat().st_size - complete
            if self.cut_bytes:
                os.truncate(self.path, complete)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if not existed:
            fsync_folder(self.path.parent)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; when it returns, the row survives a kill of this process."""
        line = json_line(row)
        end = os.fstat(self._descriptor).st_size
        with disk_full_is_explained(self.path):
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except BaseException:  # a full disk, or Ctrl-C between two pieces: no half line stays
                os.ftruncate(self._descriptor, end)
                raise

    def sync(self) -> None:
        """Make what was appended survive a power cut too; called before a checkpoint counts as saved."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync and close; closing twice is fine."""
        if self._descriptor >= 0:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self):
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
