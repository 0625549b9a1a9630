"""One line of the table: what the original documents name, what to type here, and how a test sees that it is true."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from origins.workshop import Workshop

TRAIN = "train nano --data shards --dry-run --json"
"""Resolves settings and plans the run, and trains nothing."""
TUNE = "finetune runs/base --data words.jsonl --context-tokens 96 --dry-run --json"


@dataclass
class Seen:
    """What a command, or a call in Python, left behind."""

    here: Path
    """The folder that it ran in."""
    code: int = 0
    out: str = ""
    err: str = ""
    value: Any = None
    """Of a call."""

    @cached_property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One or more things of the originals that have one answer here."""

    was: tuple[str, ...]
    """Keys as `originals.Named.all` makes them: `train.py --lora_r`, `train.py`, `zero_stage=3`."""
    here: str
    """Markdown: what to type, or that there is nothing."""
    note: str = ""
    """Where we differ or refuse, and why."""
    run: str | Callable[[Workshop], Any]
    """The words after `mamba-slm`, made small, in the folder of the workshop; or a call there."""
    holds: Callable[[Seen], bool]
    """Whether the outcome is what `here` says."""
    exits: int = 0


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows under one heading."""

    title: str
    rows: tuple[Row, ...]
    about: str = ""
    blocks: tuple[tuple[str, str], ...] = field(default=())
    """(whole command of the originals by the name of its script, ours)."""


def row(*was: str, here: str, run: str | Callable[[Workshop], Any], holds: Callable[[Seen], bool], note: str = "",
        exits: int = 0) -> Row:  # fmt: skip
    """A row, with the things of the originals first."""
    return Row(was=was, here=here, note=note, run=run, holds=holds, exits=exits)


def setting(**wanted: Any) -> Callable[[Seen], bool]:
    """The resolved settings of a dry run have these values."""
    return lambda seen: {name: seen.json["settings"][name] for name in wanted} == wanted


def model(**wanted: Any) -> Callable[[Seen], bool]:
    """The planned model has these values."""
    return lambda seen: {name: seen.json["model"][name] for name in wanted} == wanted


def file(*names: str) -> Callable[[Seen], bool]:
    """These files are there, and not empty."""
    return lambda seen: all((seen.here / name).stat().st_size > 0 for name in names)


def says(*texts: str) -> Callable[[Seen], bool]:
    """Each text was printed, on stdout or stderr."""
    return lambda seen: all(text in seen.out + seen.err for text in texts)


def gives(*keys: str) -> Callable[[Seen], bool]:
    """The JSON document has these keys; dots go inside, a number is a place in a list."""

    def holds(seen: Seen) -> bool:
        for key in keys:
            value = seen.json
            for part in key.split("."):
                value = value[int(part) if part.isdigit() else part]
            if value is None:
                return False
        return True

    return holds


def true(seen: Seen) -> bool:
    """The call returned something true."""
    return bool(seen.value)
