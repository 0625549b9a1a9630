"""`run.json`: what was started, by which versions, on what machine, what was planned and what came out.

Never an environment variable; secrets on the command line are replaced before anything is written.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import mamba_slm
from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.runs.format_version import Migration, read_versioned_json
from mamba_slm.runs.jsonl import without_nan
from mamba_slm.runs.machine import hardware_summary
from mamba_slm.runs.redact import redact_command

FORMAT_VERSION = 1
"""The version of the whole run directory: the row formats of its .jsonl files change only together with it."""

MIGRATIONS: dict[int, Migration] = {}

FIELD_TYPES = {"id": str, "kind": str, "command": list, "created": str, "versions": dict, "hardware": dict}
"""Fields that must have this type where they are present; `id` and `kind` must be."""

RECORDED_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The facts of a run. `RunRecord.new` collects them; `dataclasses.replace` adds the result at the end."""

    id: str
    """The run's name; unique in its home."""

    kind: Literal["train", "quickstart"] | str
    """Which command made it."""

    command: tuple[str, ...] = ()
    """The command line with secrets hidden, beginning with `mamba-slm`."""

    working_directory: str = ""
    """Where relative paths in `command` begin."""

    created: str = ""
    """ISO 8601, UTC."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """mamba_slm, python, torch, …"""

    git: Mapping[str, Any] | None = None
    """{"commit": str, "dirty": bool} of the package's source; None when it was installed from a wheel."""

    hardware: Mapping[str, Any] = field(default_factory=dict)
    estimate: Mapping[str, Any] | None = None
    """Planned: seconds, tokens, memory_bytes, parameters."""

    result: Mapping[str, Any] | None = None
    """Actual: seconds, tokens, memory_bytes, …; None until the run ends."""

    @classmethod
    def new(
        cls,
        *,
        id: str,
        kind: str,
        command: Sequence[str] | None = None,
        estimate: Mapping[str, Any] | None = None,
        hardware: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """A record of now, here, with this command line (that of the process unless `command` is given).

        Args:
            hardware: further facts, such as GPU memory seen by torch; they replace those of the same name.
        """
        words = ["mamba-slm", *sys.argv[1:]] if command is None else command
        return cls(
            id=id,
            kind=kind,
            command=redact_command(words),
            working_directory=os.getcwd(),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            versions=installed_versions(),
            git=source_commit(),
            hardware={**hardware_summary(), **(hardware or {})},
            estimate=estimate,
        )


def write_record(path: Path, record: RunRecord) -> None:
    """Replace `run.json` atomically. NaN and infinity become null."""
    write_json_atomic(path, without_nan({"format_version": FORMAT_VERSION, **asdict(record)}))


def read_record(path: Path) -> RunRecord:
    """The record in `run.json`; fields this version does not know are left out.

    Raises:
        DataError: missing or damaged; names the file.
        SetupError: written by a newer package.
    """
    try:
        content = read_versioned_json(path, supported=FORMAT_VERSION, migrations=MIGRATIONS)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", hint="the run was not started by mamba-slm, or was cut short") from error
    known = {each.name: content[each.name] for each in fields(RunRecord) if each.name in content}
    for name, kind in FIELD_TYPES.items():
        if not isinstance(known.get(name, kind()), kind) or (name in ("id", "kind") and not known.get(name)):
            raise DataError(f"{path} has no usable {name!r}", hint="it is damaged; restore it from a copy")
    for name in ("git", "estimate", "result"):
        if not isinstance(known.get(name), dict):
            known[name] = None
    known["command"] = tuple(map(str, known.get("command", ())))
    return RunRecord(**known)


def installed_versions() -> dict[str, str]:
    """Versions of the package, Python and what the numbers depend on, read from metadata: nothing is imported."""
    versions = {"mamba_slm": mamba_slm.__version__, "python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def source_commit() -> dict[str, Any] | None:
    """The commit of the package's source and whether it was changed since; None when git does not track the source."""
    folder = Path(mamba_slm.__file__).parent
    tracked = git(folder, "ls-files", "--error-unmatch", "__init__.py")  # not the repository of whoever installed it
    commit = git(folder, "rev-parse", "HEAD") if tracked else None
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(git(folder, "status", "--porcelain", "--", "."))}


def git(folder: Path, *arguments: str) -> str | None:
    """Output of git in `folder`; None when git is absent or fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # set inside hooks
    try:
        finished = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()
