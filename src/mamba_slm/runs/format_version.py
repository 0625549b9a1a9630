"""Every JSON file of a run carries `format_version`: older is migrated, newer is refused with a hint.

`run.json` speaks for the whole directory, so that `metrics.jsonl`, `samples.jsonl` and `events.jsonl` stay plain rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, SetupError

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the content of version n into that of version n + 1."""


def read_versioned_json(path: Path, *, supported: int, migrations: Mapping[int, Migration]) -> dict[str, Any]:
    """Read a JSON object and bring it to version `supported`.

    Args:
        path: the file.
        supported: the newest version this package understands.
        migrations: version n → the function that makes it n + 1; one entry for each n < `supported`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: not a JSON object, or without a whole-number `format_version` of at least 1.
        SetupError: written by a newer package.
    """
    damaged = "it is damaged; restore it from a copy, or move it away: everything else in the folder stays readable"
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise DataError(f"{path} is no file", hint=damaged)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise DataError(f"{path} is not valid JSON ({error})", hint=damaged) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not a JSON object", hint=damaged)
    version = content.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"{path} has no usable format_version (found {version!r})", hint=damaged)
    if version > supported:
        raise SetupError(
            f"{path} has format version {version}, this package reads up to {supported}",
            hint="it was written by a newer mamba-slm: pip install --upgrade mamba-slm",
        )
    while version < supported:
        content = migrations[version](content)
        version += 1
    return content
