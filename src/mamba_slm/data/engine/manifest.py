"""manifest.jsonl: a line for every task that is over, in the order in which they ended; of two lines the last holds.

    {"stage": "signed", "task": "000000", "state": "done", "attempts": 1, "seconds": 2.1, "files": 5, "bytes": 9121,
     "sha256": "…", "counts": {"documents": 100}, "configuration": "…"}
    {"stage": "signed", "task": "000001", "state": "quarantined", "attempts": 3, "error": "…", "configuration": "…"}

Neither paths nor names of machines are in it. A line that a kill has cut off is dropped; its task is looked at again.
"""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, RunLockedError
from mamba_slm.core.files import disk_full_is_explained

MANIFEST = "manifest.jsonl"


class Manifest:
    """What is known about the tasks of all stages that work in a folder; one process at a time keeps it."""

    def __init__(self, folder: Path, configuration: str):
        """
        Args:
            configuration: fingerprint of everything that the result depends on.

        Raises:
            DataError: the folder is of another configuration, or its manifest is damaged.
            RunLockedError: another process works in the folder.
        """
        self.folder, self.path, self.configuration = folder, folder / MANIFEST, configuration
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}
        self.unlock: Callable[[], object] | None = None
        self.open()

    def open(self) -> None:
        """Take the folder and read what is known; nothing, if that was done and not given back."""
        if self.unlock is not None:
            return
        with disk_full_is_explained(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.unlock = weakref.finalize(self, os.close, locked(self.folder))
        self.entries = {}
        for entry in read_manifest(self.path):
            if entry["configuration"] != self.configuration:
                self.close()
                raise DataError(
                    f"{self.folder} holds work of another configuration",
                    hint=f"delete it, or choose another folder: rm -r {self.folder}",
                )
            self.entries[entry["stage"], entry["task"]] = entry

    def close(self) -> None:
        """Give the folder back."""
        if self.unlock is not None:
            self.unlock()
            self.unlock = None

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line."""
        entry = {**entry, "configuration": self.configuration}
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        with disk_full_is_explained(self.path), self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # what a kill has cut off stays a line of its own
            file.write(line)
        self.entries[entry["stage"], entry["task"]] = entry

    def of_stage(self, stage: str) -> list[dict[str, Any]]:
        """The lines that hold for a stage, by task."""
        return [entry for (name, _), entry in sorted(self.entries.items()) if name == stage]


def locked(folder: Path) -> int:
    """A file descriptor that holds a lock on the folder until it is closed, or its process ends.

    Raises:
        RunLockedError: another one does.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RunLockedError(
            f"another process works in {folder}", hint="wait until it is done, end it, or choose another folder"
        ) from error
    except OSError:
        pass  # a file system without locks
    return descriptor


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a manifest; none when there is no file.

    Raises:
        DataError: a whole line is no entry.
    """
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            entry = json.loads(line) if line else None
        except ValueError:
            continue  # cut off
        if entry is None:
            continue
        if not isinstance(entry, dict) or not {"stage", "task", "state", "configuration"} <= entry.keys():
            raise DataError(f"{path}, line {number} is no entry of a manifest", hint="delete the file")
        entries.append(entry)
    return entries
