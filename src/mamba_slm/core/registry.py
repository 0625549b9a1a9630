"""Names map to "module:attribute" strings and are loaded on use, so that a table costs nothing to import."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from mamba_slm.core.errors import UnknownNameError


def load(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Return the object that `table[name]` points to.

    Raises:
        UnknownNameError: `name` is not in the table; names the nearest entry.
    """
    if name not in table:
        raise UnknownNameError(kind, name, table)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
