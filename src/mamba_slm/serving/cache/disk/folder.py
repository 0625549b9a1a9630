"""The files of a disk cache: which there are, how many bytes, and which goes when there are too many.

    DIR/secret                         32 bytes
    DIR/IDENTITY/NAME.safetensors      one state; IDENTITY is what it belongs to: weights, precision, backend, tokenizer

Folders have mode 0700, files 0600. Files of other identities count and go like all others: the model that they belong
to may come back, or not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections import Counter
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.serving.cache.disk.names import NAME

SUFFIX = ".safetensors"
UNFINISHED = ".unfinished-"


class EntryFiles:
    """Used by several threads; other processes may use the same folder."""

    def __init__(self, folder: Path, identity: str, *, max_bytes: int):
        """Look at what is there, and remove what a killed process did not finish.

        Raises:
            DataError: the folder is not ours alone.
        """
        self.folder, self.max_bytes = folder / identity, max_bytes
        for each in (folder, self.folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = each.stat()
            if found.st_mode & 0o077 or found.st_uid != os.geteuid():
                raise DataError(
                    f"others can read or change {each} (mode {found.st_mode & 0o777:04o})",
                    hint=f"states are as private as the prompts they were made of: chmod 700 {each}",
                )
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[float, int]] = {}
        """When it was used last, and its bytes."""
        self._lengths: Counter[int] = Counter()
        """How many states of this identity have so many tokens."""
        self._num_bytes = 0
        self.evicted = 0
        """Files that had to go."""
        entries = (path for path in folder.glob(f"*/*{SUFFIX}") if NAME.fullmatch(path.stem))
        for path in entries:  # and nothing else that may lie there: what is counted may be deleted
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                self._count(path, status.st_mtime, status.st_size)
        for path in self.folder.glob(f"{UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):  # another process may be writing it, and be done just now
                if time.time() - path.stat().st_mtime > 60:
                    path.unlink()
        with self._lock:
            self._make_room()

    @property
    def num_bytes(self) -> int:
        """Of all files, of other identities, too."""
        return self._num_bytes

    def __len__(self) -> int:
        """States of this identity."""
        return self._lengths.total()

    @property
    def lengths(self) -> list[int]:
        """Counts of tokens of which there are states, ascending."""
        with self._lock:
            return sorted(self._lengths)

    def __contains__(self, name: str) -> bool:
        with self._lock:  # who notes when it was used takes it out for a moment
            return self._path(name) in self._files

    def read(self, name: str) -> bytes | None:
        """The bytes of an entry, used just now; None where it has gone."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            self.delete(name)
            return None
        with self._lock:
            self._count(path, time.time(), len(data))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put an entry in its place, whole or not at all; others go where it needs room.

        It is not forced onto the disk: after a power cut a damaged one does not have its code.

        Raises:
            OSError: it cannot be written.
        """
        if len(data) > self.max_bytes:
            return
        path, unfinished = self._path(name), self.folder / f"{UNFINISHED}{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        with self._lock:
            self._count(path, time.time(), len(data))
            self._make_room()

    def delete(self, name: str) -> None:
        """Remove an entry."""
        with self._lock:
            self._remove(self._path(name))

    def _path(self, name: str) -> Path:
        assert NAME.fullmatch(name)
        return self.folder / f"{name}{SUFFIX}"

    def _count(self, path: Path, used: float, size: int) -> None:
        before = self._files.pop(path, None)
        self._files[path] = (used, size)
        self._num_bytes += size - (0 if before is None else before[1])
        if before is None and path.parent == self.folder:
            self._lengths[int(path.stem.partition("-")[0])] += 1

    def _remove(self, path: Path) -> None:
        found = self._files.pop(path, None)
        path.unlink(missing_ok=True)
        if found is None:
            return
        self._num_bytes -= found[1]
        if path.parent == self.folder:
            length = int(path.stem.partition("-")[0])
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]

    def _make_room(self) -> None:
        """Remove what was not used for longest."""
        if self._num_bytes <= self.max_bytes:
            return
        for path, _ in sorted(self._files.items(), key=lambda item: item[1][0]):
            if self._num_bytes <= self.max_bytes:
                return
            self._remove(path)
            self.evicted += 1
