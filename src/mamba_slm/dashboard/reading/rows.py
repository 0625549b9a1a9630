"""The rows of a growing .jsonl file, each handed on once, for as long as somebody looks.

`follow` does this for pages, which keep their position; here the position is kept with what was made of the rows, so
that a file of any length is read once, in pieces, and then only at its end.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from mamba_slm.dashboard.reading.follow import MOST_BYTES, Position, checksum_before, fits
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.runs.jsonl import parse_row

LONGEST_ROW = 16 * MOST_BYTES
"""In bytes; a longer one is passed over."""
KEPT_FILES = 32

T = TypeVar("T")


class Gathered(Generic[T]):
    """What comes of the rows of one file. Safe to use from several threads.

    Args:
        begin: makes what an empty file gives.
        take: adds a row to it.
    """

    def __init__(self, path: Path, begin: Callable[[], T], take: Callable[[T, dict[str, Any]], None]):
        self.path, self._begin, self._take = path, begin, take
        self._lock = threading.Lock()
        self._position, self._found = Position(), begin()

    def read(self, show: Callable[[T], Any]) -> Any:
        """`show` of what all complete rows give; a file that is not there is an empty one."""
        with self._lock:
            try:
                file = open_plain(self.path)
            except OSError:
                self._position, self._found = Position(), self._begin()
                return show(self._found)
            with file:
                if not fits(file, os.fstat(file.fileno()), self._position):
                    self._position, self._found = Position(), self._begin()
                file.seek(self._position.offset)
                end = self._position.offset
                for line, after in complete_lines(file):
                    end = after
                    row = parse_row(line)
                    if row is not None:
                        self._take(self._found, row)
                self._position = Position(os.fstat(file.fileno()).st_ino, end, checksum_before(file, end))
            return show(self._found)


def complete_lines(file: Any) -> Iterator[tuple[bytes, int]]:
    """The lines from here on that have an end, each with the offset after it; too long ones are empty."""
    offset, is_too_long = file.tell(), False
    while line := file.readline(LONGEST_ROW):
        offset += len(line)
        if line.endswith(b"\n"):
            yield b"" if is_too_long else line, offset
            is_too_long = False
        elif len(line) == LONGEST_ROW:
            is_too_long = True


class GatheredOfRuns(Generic[T]):
    """The same for the files that were looked at last."""

    def __init__(self, begin: Callable[[], T], take: Callable[[T, dict[str, Any]], None], *, most: int = KEPT_FILES):
        self._begin, self._take, self._most = begin, take, most
        self._lock, self._kept = threading.Lock(), OrderedDict[Path, Gathered[T]]()

    def of(self, path: Path) -> Gathered[T]:
        """What is known of the file at `path`."""
        with self._lock:
            found = self._kept.setdefault(path, Gathered(path, self._begin, self._take))
            self._kept.move_to_end(path)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return found
