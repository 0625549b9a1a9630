"""A folder with some tasks of a stage and their results, for workers that the engine cannot send anything to.

tasks      pickled orders, the limits, the sign files; only what the engine itself has written is read back
results/N  the pickled outcome of task N, written atomically when it is over
logs/N.log what element N of the array said
"""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.core.files import write_bytes_atomic
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.outcome import Outcome
from mamba_slm.data.engine.sign_files import obeyed_with_signs


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Tasks that are submitted together."""

    folder: Path
    names: tuple[str, ...]
    """Of the tasks."""
    orders: tuple[bytes, ...]
    signs: tuple[Path, ...]
    """The sign file of each."""
    limits: EngineLimits
    elements: int
    """Element e does the tasks e, e + elements, e + 2 × elements, ..."""

    def write(self) -> str:
        """Make the folder; the checksum of the tasks."""
        for name in ("results", "logs"):
            (self.folder / name).mkdir(parents=True)
        os.chmod(self.folder, 0o700)
        data = pickle.dumps(self)
        write_bytes_atomic(self.folder / "tasks", data)
        return hashlib.sha256(data).hexdigest()

    def do(self, element: int) -> None:
        """Worker: do what falls to one element."""
        for position in range(element, len(self.orders), self.elements):
            if not self.result_path(position).exists():
                outcome = obeyed_with_signs(self.orders[position], self.limits, self.signs[position])
                write_bytes_atomic(self.result_path(position), pickle.dumps(outcome))

    def result(self, position: int) -> Outcome | None:
        """How a task ended; None while it has not."""
        path = self.result_path(position)
        return read_own(path) if path.exists() else None

    def result_path(self, position: int) -> Path:
        """Where its outcome goes."""
        return self.folder / "results" / f"{position}"

    def log_of(self, position: int, characters: int = 2000) -> str:
        """The end of what the element of a task said."""
        path = self.folder / "logs" / f"{position % self.elements}.log"
        return path.read_text(errors="replace")[-characters:].strip() if path.is_file() else ""


def read_wave(folder: Path, checksum: str | None = None) -> Wave:
    """The wave in a folder.

    Raises:
        CheckFailedError: it is another user's, or not what was written.
    """
    return read_own(folder / "tasks", checksum)


def read_own(path: Path, checksum: str | None = None) -> Any:
    """Unpickle a file of this user."""
    if path.stat().st_uid != os.getuid():
        raise CheckFailedError(f"{path} belongs to another user; it is not read")
    data = path.read_bytes()
    if checksum is not None and hashlib.sha256(data).hexdigest() != checksum:
        raise CheckFailedError(f"{path} is not what was written", hint="run the command again")
    return pickle.loads(data)
