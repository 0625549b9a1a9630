"""What a person sees: talk and progress on stderr, results on stdout, tables, colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from mamba_slm.core.units import format_count, format_seconds

PLAIN_INTERVAL_SECONDS = 10.0
COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
quiet_mode = False


def configure(*, quiet: bool) -> None:
    """Apply `--quiet`: `say` and `progress` become silent; results and errors stay."""
    global quiet_mode
    quiet_mode = quiet


def say(text: str = "") -> None:
    """Talk to the user on stderr, unless `--quiet`."""
    if not quiet_mode:
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout. NaN and infinity are refused: programs cannot read them."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_error(message: str, *, hint: str | None = None) -> None:
    """`error:` and, where there is one, `hint:` on stderr; also under `--quiet`."""
    sys.stdout.flush()
    print(f"{coloured('error:', 'red')} {message}", file=sys.stderr)
    if hint:
        print(f"{coloured('hint:', 'green')} {hint}", file=sys.stderr, flush=True)


def coloured(text: str, colour: str, *, stream: TextIO | None = None) -> str:
    """The text in a colour of `COLOURS` when the stream (default: stderr) is a terminal and NO_COLOR is not set."""
    target = sys.stderr if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not target.isatty():
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> str:
    """Columns under a header, two spaces apart; the columns named in `right` are aligned to the right.

    >>> print(table(["name", "n"], [["a", 5], ["bcdef", 12]], right=["n"]))
    name    n
    a       5
    bcdef  12
    """
    cells = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, header, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


class Progress:
    """Counts towards `total`; a bar on a terminal, else a plain line every ten seconds, nothing under `--quiet`."""

    def __init__(self, total: int | None, unit: str, label: str):
        self.total, self.unit, self.label = total, unit, label
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty() and not quiet_mode:
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit=unit, desc=label, unit_scale=True, leave=False, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, count: int = 1) -> None:
        """Note that `count` more units are done."""
        self.done += count
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(count)
        elif now - self.last_line >= PLAIN_INTERVAL_SECONDS:
            self.last_line = now
            say(self.line(now - self.started))

    def line(self, seconds: float) -> str:
        """The state in one line: how much, how fast, how long still."""
        rate = self.done / seconds if seconds > 0 else 0.0
        text = f"{self.label}: {format_count(self.done)}"
        if self.total:
            text += f" of {format_count(self.total)} {self.unit} ({self.done / self.total:.0%})"
        else:
            text += f" {self.unit}"
        text += f", {format_count(rate)} {self.unit}/s"
        if self.total and rate:
            text += f", {format_seconds(max(0, self.total - self.done) / rate)} left"
        return text


def progress(total: int | None, unit: str, label: str) -> Progress:
    """Show that something long goes on: `with progress(len(files), "files", "reading") as bar: bar.advance()`."""
    return Progress(total, unit, label)
