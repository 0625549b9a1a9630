"""What is on its way out warns once, says what takes its place, and names the version in which it ends.

    @deprecated(use="mamba_slm.model.presets.preset", ends="0.3")      a function
    deprecated_settings = {"batch": Renamed(to="batch_tokens", ends="0.3")}      a setting: its key and its flag
    warn_deprecated("--fast", use="--kernels", ends="0.3")      anything else

`docs/deprecation.md` has the rules. A test fails when the version of the package reaches an `ends`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
SAID: set[str] = set()
"""What this process has warned about."""


class MambaSlmDeprecationWarning(FutureWarning):
    """Something of ours will end; shown by default, because whoever sees it must act."""


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """A setting that has another name now; the old key and the old flag still work, and warn."""

    to: str
    """Name of the setting today."""

    ends: str
    """Version without the old name."""


def warn_deprecated(what: str, *, use: str, ends: str, stacklevel: int = 2) -> None:
    """Warn about `what`, the first time in a process.

    Args:
        what: as the user wrote it: a flag, a key, a name.
        use: what to write instead.
        ends: the version in which it is gone.
        stacklevel: whose line is shown; 2 is the caller's.
    """
    if what not in SAID:
        SAID.add(what)
        message = f"{what} is deprecated and ends in version {ends}; use {use}"
        warnings.warn(message, MambaSlmDeprecationWarning, stacklevel=stacklevel + 1)


def deprecated(*, use: str, ends: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function warn when it is called; arguments as in `warn_deprecated`.

    >>> deprecated(use="preset", ends="9.0")(len).__name__
    'len'
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def warned(*args: P.args, **kwargs: P.kwargs) -> R:
            warn_deprecated(f"{function.__module__}.{function.__qualname__}", use=use, ends=ends, stacklevel=2)
            return function(*args, **kwargs)

        return warned

    return wrap


def renamed_settings(cls: type) -> dict[str, Renamed]:
    """The old names of a config's settings: its class attribute `deprecated_settings`."""
    found: dict[str, Renamed] = getattr(cls, "deprecated_settings", {})
    return found


def plain_format(formatted: Callable[..., str]) -> Callable[..., str]:
    """A `warnings.formatwarning` that shows our warnings as a command does: one line, without a place in our code."""

    def shown(message: object, category: type[Warning], *place: object, **more: object) -> str:
        if issubclass(category, MambaSlmDeprecationWarning):
            return f"warning: {message}\n"
        return formatted(message, category, *place, **more)

    return shown
