"""Were the files of a served model replaced since it was loaded?

What runs is in memory and stays as it is; but an adapter or a state for the files would not be one for it, and the next
start would serve something else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from mamba_slm.core.errors import CheckpointError, MambaSlmError
from mamba_slm.generation.states.fingerprint import MODEL_FILES


class ModelReplacedError(CheckpointError):
    """The files of the model are others than those that were loaded."""


Signature = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change in ns and number of each file."""


class ModelFiles:
    """A model folder as it was when this was made."""

    def __init__(self, folder: Path, fingerprint: Callable[[Path], str] | None):
        """
        Args:
            fingerprint: of the weights in a folder, the same after files were merely touched; None: any change of size,
                time or place counts.
        """
        self.folder, self._fingerprint = folder, fingerprint
        self._expected = None if fingerprint is None else fingerprint(folder)
        self._unchanged: Signature = signature_of(folder)
        self._changed: tuple[Signature, str] | None = None
        self._lock = threading.Lock()

    def reason_changed(self) -> str | None:
        """What is wrong with the folder, or None. Costs a look at the names and times as long as they stay, else a
        reading of the weights: not for the event loop."""
        with self._lock:  # one thread reads the files, and others take what it finds
            found = signature_of(self.folder)
            if found == self._unchanged:
                return None
            if self._changed is None or self._changed[0] != found:
                reason = self._compared()
                if reason is None:
                    self._unchanged = found
                    return None
                self._changed = (found, reason)
            return self._changed[1]

    def require_unchanged(self) -> None:
        """
        Raises:
            ModelReplacedError: the files are others than those that were loaded.
        """
        reason = self.reason_changed()
        if reason is not None:
            raise ModelReplacedError(reason, hint="start the server again, or put the files back")

    def _compared(self) -> str | None:
        what = f"the model's files in {self.folder} are not those that this server runs"
        if self._fingerprint is None:
            return what
        try:
            return None if self._fingerprint(self.folder) == self._expected else what
        except MambaSlmError as error:
            return f"{what}: {error.message}"


def signature_of(folder: Path) -> Signature:
    """Of all files that decide what a model computes."""
    found = []
    for path in {path for pattern in MODEL_FILES for path in folder.glob(pattern)}:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(found))
