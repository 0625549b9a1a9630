"""How an attempt at a task ended, in a form that can be sent from one process to another."""

from __future__ import annotations

import pickle
import signal
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from mamba_slm.core.errors import (
    DataError,
    DiskFullError,
    MambaSlmError,
    OutOfMemoryError,
    SetupError,
    UsageError,
)
from mamba_slm.core.files import is_disk_full

MOST_CHARACTERS = 8000
"""Of a traceback: a message stays so small that sending it never waits for who reads it."""

FailureKind = Literal["passing", "input", "fatal", "died"]
"""passing: may work the next time; input: will not; fatal: nor will any other task; died: the worker is gone."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt did not end well."""

    kind: FailureKind
    text: str
    """The traceback, or how the worker died."""
    error: bytes | None = None
    """The exception, pickled, where that is possible."""

    def exception(self) -> Exception:
        """The exception to raise for it, with the worker's traceback as a note."""
        error: Exception | None = pickle.loads(self.error) if self.error is not None else None
        if error is None:
            return SetupError(self.text)
        error.add_note(f"in a worker:\n{self.text}")
        return error


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    seconds: float
    failure: Failure | None = None
    """None: the folder is there."""
    record: dict[str, Any] | None = None
    """What the manifest says about the folder, if one is kept."""


def failure_of(error: Exception) -> Failure:
    """What an exception of a task means for it and for the others."""
    text = "".join(traceback.format_exception(error))
    if is_disk_full(error) and not isinstance(error, DiskFullError):
        error = DiskFullError(
            f"no space left on device: {error}",
            hint="free some space, then run the same command again: it continues",
        )
    if isinstance(error, MemoryError | OutOfMemoryError):
        kind: FailureKind = "died"
    elif isinstance(error, SetupError):
        kind = "fatal"
    elif isinstance(error, DataError | UsageError):
        kind = "input"
    else:
        kind = "passing"
    return Failure(kind=kind, text=shortened(text), error=pickled(error))


def pickled(error: Exception) -> bytes | None:
    """The exception, or what comes nearest to it and can be sent; None when nothing can."""
    candidates = [error]
    if isinstance(error, MambaSlmError):
        for parent in type(error).__mro__[1:]:
            if issubclass(parent, MambaSlmError):
                candidates.append(parent(error.message, hint=error.hint))
    for candidate in candidates:
        try:
            data = pickle.dumps(candidate)
            pickle.loads(data)
        except Exception:  # whatever an exception of someone else's raises when it is copied
            continue
        if len(data) <= MOST_CHARACTERS:
            return data
    return None


def shortened(text: str) -> str:
    """Beginning and end of a long text."""
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters ...\n{text[-half:]}"


def death(code: int | None, details: str = "") -> Failure:
    """The failure of a task whose worker ended.

    Args:
        code: its exit status; negative: the signal that killed it; None: unknown.
        details: what it wrote before it ended.
    """
    if code is None:
        how = "the worker is gone"
    elif code >= 0:
        how = f"the worker ended with exit status {code}"
    else:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        how = f"the worker was killed by {name}" + (" (no memory left?)" if name == "SIGKILL" else "")
    return Failure(kind="died", text=shortened(f"{details.strip()}\n{how}".strip()))
