"""Rows that belong to a step: `metrics.jsonl`, and in the same way `samples.jsonl` and `events.jsonl`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.files import write_bytes_atomic
from mamba_slm.runs.jsonl import TAIL_BYTES, JsonLinesWriter, numbered_rows, parse_row, read_json_lines


class MetricsWriter(JsonLinesWriter):
    """Appends rows that each carry the whole number `step`. A NaN or infinite value is written as null."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; when it returns, the row survives a kill of this process.

        Raises:
            ConfigError: the row has no whole-number `step`.
            DiskFullError: no room; the file ends with its last complete row.
        """
        step = row.get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            raise ConfigError(f"a row of {self.path.name} needs a whole-number 'step', got {step!r}")
        super().append(row)

    def truncate_after(self, step: int) -> int:
        """Remove the rows after `step`, which a run resumed from the checkpoint of `step` writes again.

        Returns: how many rows were removed. A kill leaves either the old file or the new one.
        """
        rows = numbered_rows(self.path)
        kept = [line for row, line in rows if row.get("step", 0) <= step]
        if len(kept) < len(rows):
            write_bytes_atomic(self.path, b"".join(kept))
            os.close(self._descriptor)  # it points to the replaced file
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        return len(rows) - len(kept)


def read_metrics(path: str | os.PathLike[str], *, kind: str | None = None) -> list[dict[str, Any]]:
    """All complete rows, oldest first; with `kind`, only those ("train" or "validation"). No file: no rows.

    Raises:
        DataError: a line before the last is damaged; names file and line.
    """
    rows = read_json_lines(Path(path))
    return rows if kind is None else [row for row in rows if row.get("kind") == kind]


def last_row(path: str | os.PathLike[str], *, kind: str) -> dict[str, Any] | None:
    """The newest complete row of a kind; None when there is none. Reads from the end, and only as far as needed.

    Damaged lines are passed over.
    """
    path, mark = Path(path), kind.encode()
    size = path.stat().st_size if path.is_file() else 0
    reach = min(TAIL_BYTES, size)
    while reach:
        with path.open("rb") as file:
            file.seek(size - reach)
            lines = file.read(reach).split(b"\n")
        complete = lines[0 if reach == size else 1 : -1]  # the first may have been cut by the seek
        for line in reversed(complete):
            row = parse_row(line) if mark in line else None  # parsing a long file for a rare kind would take seconds
            if row is not None and row.get("kind") == kind:
                return row
        reach = 0 if reach == size else min(8 * reach, size)
    return None


def downsample(rows: Sequence[Mapping[str, Any]], *, key: str, max_rows: int) -> list[Mapping[str, Any]]:
    """At most `max_rows` of the rows, in their order, such that no spike disappears.

    The rows are split into buckets of equal count; each gives its smallest and its largest `key`. The first and last
    row are kept as well. Rows whose `key` is None (NaN when it was measured) or absent are left out.

    Raises:
        ConfigError: `max_rows` is below 4: the ends and one bucket.
    """
    if max_rows < 4:
        raise ConfigError(f"max_rows must be at least 4, got {max_rows}")
    usable = [row for row in rows if row.get(key) is not None]
    if len(usable) <= max_rows:
        return usable
    buckets = (max_rows - 2) // 2
    kept = {0, len(usable) - 1}
    for bucket in range(buckets):
        indices = range(bucket * len(usable) // buckets, (bucket + 1) * len(usable) // buckets)
        kept.add(min(indices, key=lambda i: usable[i][key]))
        kept.add(max(indices, key=lambda i: usable[i][key]))
    return [usable[i] for i in sorted(kept)]
