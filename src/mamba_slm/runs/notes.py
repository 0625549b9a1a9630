"""`notes.json`: what people say about a run. Not the trainer's: whoever looks at the run may write it, any time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.runs.layout import RunDirectory

FORMAT_VERSION = 1
FILE = "notes.json"
MOST_CHARACTERS, MOST_TAGS = 2000, 20
TAG = re.compile(r"\w[\w.+-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Notes:
    """A remark, and tags to find the run by."""

    note: str = ""
    tags: Sequence[str] = ()

    def __post_init__(self):
        if len(self.note) > MOST_CHARACTERS:
            raise ConfigError(f"a note may have {MOST_CHARACTERS:,} characters, this has {len(self.note):,}")
        if len(self.tags) > MOST_TAGS:
            raise ConfigError(f"a run may have {MOST_TAGS} tags, not {len(self.tags)}")
        for tag in self.tags:
            if not TAG.fullmatch(tag):
                raise ConfigError(f"{tag[:50]!r} is no tag", hint="use letters, digits, - _ . +; at most 40 of them")


def read_notes(run: RunDirectory) -> Notes:
    """The notes; empty ones when there are none or the file is damaged."""
    file = run.path / FILE
    if not file.is_file():  # a pipe or device would keep readers waiting
        return Notes()
    try:
        content = json.loads(file.read_bytes())
        return Notes(note=str(content["note"]), tags=tuple(map(str, content["tags"])))
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return Notes()


def write_notes(run: RunDirectory, notes: Notes) -> None:
    """Replace the notes of a run."""
    write_json_atomic(run.path / FILE, {"format_version": FORMAT_VERSION, **asdict(notes)})
