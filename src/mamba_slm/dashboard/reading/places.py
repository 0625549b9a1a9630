"""Which files pages may show: those below the folder of the dashboard, the homes, and what `--data` names."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import DataError, UnknownNameError, UsageError
from mamba_slm.data.folders import CURATION
from mamba_slm.runs.layout import is_run

UPLOADS = ".uploads"
SHARDS = "shards.json"
MARKS = (
    ("token shards", (SHARDS,)),
    ("token shards", (f"train/{SHARDS}",)),
    ("curated text", (CURATION, "funnel.json")),
    ("download", ("download.manifest",)),
    ("model", ("config.json", "model.safetensors")),
    ("adapter", ("adapter_config.json",)),
    ("tokenizer", ("tokenizer.json",)),
)
"""Kind of a folder, and the files that make it one: names alone, so that a list of a thousand folders stays quick."""

MOST_ENTRIES = 1000
MOST_LOOKED_AT = 20_000
MOST_CHARACTERS = 4096


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file or folder in a list."""

    name: str
    path: str
    """As one would type it."""
    is_folder: bool
    bytes: int | None
    """None of a folder."""
    what: str
    """Which kind of folder it is, such as "run" or "token shards"; else empty."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds."""

    path: str
    parent: str | None
    """None where nothing above may be shown."""
    what: str
    entries: tuple[Entry, ...]
    """Folders first, then by name."""
    left_out: int
    """How many more there are, which the list is too short for."""


class Places:
    """Folders below which everything that is not hidden may be shown.

    Args:
        folder: where relative paths begin.
        more: other folders; those that do not exist show nothing.
    """

    def __init__(self, folder: Path, more: Sequence[Path]):
        self.folder = folder.resolve()
        self.roots = tuple(dict.fromkeys([self.folder, *((self.folder / path).resolve() for path in more)]))

    def find(self, text: str) -> Path:
        """The file or folder that somebody typed, without links.

        Raises:
            UsageError: it lies elsewhere, also through a link, or is hidden.
            UnknownNameError: it does not exist.
            DataError: neither a file nor a folder.
        """
        if "\0" in text or len(text) > MOST_CHARACTERS:
            raise UsageError("this is not a path")
        try:
            path = (self.folder / text).resolve()
        except (OSError, RuntimeError) as error:  # links in a circle
            raise UsageError(f"{text[:200]} leads nowhere: {error}") from error
        if not self.shows(path):
            raise UsageError(
                f"{text[:200]} is not below the folders that this dashboard shows",
                hint="start it with --data FOLDER to show another one; hidden files are never shown",
            )
        try:
            mode = path.stat().st_mode
        except OSError as error:
            names = [entry.name for entry in self.entries(path.parent)[0]] if path.parent.is_dir() else []
            raise UnknownNameError("file or folder", text[:200], names) from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{text[:200]} is neither a file nor a folder")
        return path

    def find_file(self, text: str) -> Path:
        """As `find`.

        Raises:
            DataError: it is a folder.
        """
        path = self.find(text)
        if path.is_dir():
            raise DataError(f"{text[:200]} is a folder", hint="choose a file in it")
        return path

    def shows(self, path: Path) -> bool:
        """Whether a path without links may be shown."""
        return any(path.is_relative_to(root) and is_open(path.relative_to(root)) for root in self.roots)

    def typed(self, path: Path) -> str:
        """How one types a path: relative where commands of the dashboard begin, else from the root."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def entries(self, folder: Path) -> tuple[list[os.DirEntry[str]], int]:
        """The entries that may be shown, sorted, and how many there are more."""
        found: list[tuple[bool, str, os.DirEntry[str]]] = []
        looked = 0
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                looked += 1
                if looked > MOST_LOOKED_AT:
                    break
                with contextlib.suppress(OSError, RuntimeError):
                    is_folder = entry.is_dir()
                    path = Path(entry.path).resolve() if entry.is_symlink() else Path(entry.path)
                    if self.shows(path) and (is_folder or entry.is_file()):
                        found.append((not is_folder, entry.name.casefold(), entry))
        found.sort(key=lambda row: row[:2])
        return [entry for _, _, entry in found[:MOST_ENTRIES]], max(0, len(found) - MOST_ENTRIES)

    def listing(self, text: str) -> Listing:
        """What a folder holds.

        Raises:
            MambaSlmError: see `find`, or it is a file.
        """
        folder = self.find(text)
        if not folder.is_dir():
            raise UsageError(f"{text[:200]} is a file", hint="give the folder that it is in")
        entries, left_out = self.entries(folder)
        return Listing(
            path=self.typed(folder),
            parent=self.typed(folder.parent) if self.shows(folder.parent) else None,
            what=kind_of_folder(folder),
            entries=tuple(self.entry(folder / entry.name, entry) for entry in entries),
            left_out=left_out,
        )

    def entry(self, path: Path, found: os.DirEntry[str]) -> Entry:
        """One line of a list."""
        is_folder = found.is_dir()
        return Entry(
            name=found.name,
            path=self.typed(path),
            is_folder=is_folder,
            bytes=None if is_folder else found.stat().st_size,
            what=kind_of_folder(path) if is_folder else "",
        )


def is_open(relative: Path) -> bool:
    """Whether nothing on the way is hidden; what was uploaded is not."""
    return not any(part.startswith(".") and part != UPLOADS for part in relative.parts)


def kind_of_folder(folder: Path) -> str:
    """What the folder is for us; empty where it is nothing of ours."""
    if is_run(folder):
        return "run"
    return next((what for what, names in MARKS if all((folder / name).is_file() for name in names)), "")
