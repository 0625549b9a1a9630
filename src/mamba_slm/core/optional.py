"""One way to need an optional package."""

from __future__ import annotations

import importlib
from types import ModuleType

from mamba_slm.core.errors import MissingDependencyError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or explain what needs it and how to install it.

    Args:
        module: dotted import name.
        extra: name of the extra in `pyproject.toml` that installs it.
        purpose: what needs it, as the start of a sentence ("reading .zst files").

    Raises:
        MissingDependencyError: the package cannot be imported; the cause stays chained.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs {module}, which could not be imported: {error}",
            hint=f"pip install 'mamba-slm[{extra}]'",
        ) from error
