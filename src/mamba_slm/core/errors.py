"""The exception tree. Everything a user can cause derives from `MambaSlmError`.

    MambaSlmError                 exit 1   the command failed
    ├── UsageError                exit 2   the request itself is wrong
    │   ├── ConfigError                    a setting is missing, unknown or out of range
    │   │   └── UnknownNameError           a name that is in no table; suggests the nearest
    │   └── ShapeError                     two tensors disagree about a size
    ├── SetupError                exit 3   this machine cannot do it as it is
    │   ├── MissingDependencyError         an optional package is absent
    │   └── DiskFullError                  no room for what must be written
    ├── OutOfMemoryError          exit 4   the work does not fit into memory
    ├── DataError                 exit 5   an input file is empty, broken or not what it should be
    ├── CheckFailedError          exit 6   a check on our own result failed
    ├── CheckpointError           exit 1   a checkpoint is damaged or does not fit
    ├── RunLockedError            exit 1   another process owns the run directory
    ├── TrainingDivergedError     exit 1   the loss became NaN or infinite
    ├── RankLostError             exit 1   another process of the same job died, hangs or cannot be reached
    └── InterruptedRunError       exit 130 stopped by the user; everything is saved

The command line prints `error: MESSAGE` and `hint: HINT` and exits with `exit_code`; the traceback is shown only
with `--debug`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MambaSlmError(Exception):
    """Base of every error a user can cause. `hint` says what to type or change next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MambaSlmError):
    """The request itself is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is missing, unknown or out of range."""


class UnknownNameError(ConfigError):
    """A name that is in no table.

    >>> str(UnknownNameError("preset", "nanp", ["nano", "tiny"]))
    "unknown preset 'nanp'; did you mean 'nano'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str | None = None):
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}{suggestion}", hint=hint or f"known: {', '.join(known)}")


class ShapeError(UsageError):
    """Two tensors disagree about a size."""


class SetupError(MambaSlmError):
    """This machine cannot do it as it is."""

    exit_code = 3


class MissingDependencyError(SetupError):
    """An optional package is absent."""


class DiskFullError(SetupError):
    """There is no room for what must be written."""


class OutOfMemoryError(MambaSlmError):
    """The work does not fit into memory."""

    exit_code = 4


class DataError(MambaSlmError):
    """An input file is empty, broken or not what it should be."""

    exit_code = 5


class CheckFailedError(MambaSlmError):
    """A check on our own result failed."""

    exit_code = 6


class CheckpointError(MambaSlmError):
    """A checkpoint is damaged, incomplete or does not fit the model."""


class RunLockedError(MambaSlmError):
    """Another process owns the run directory."""


class TrainingDivergedError(MambaSlmError):
    """The loss or a gradient became NaN or infinite."""


class RankLostError(MambaSlmError):
    """Another process of the same job died, hangs or cannot be reached."""


class InterruptedRunError(MambaSlmError):
    """Stopped by the user; everything is saved."""

    exit_code = 130
