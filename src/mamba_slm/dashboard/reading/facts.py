"""How a run is doing now: what its page shows in numbers and in commands."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.core.files import folder_bytes
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.runs.again import resume_command
from mamba_slm.runs.evidence import number, section
from mamba_slm.runs.kept_settings import read_settings
from mamba_slm.runs.layout import RunDirectory, step_of
from mamba_slm.runs.lock import live_owner
from mamba_slm.runs.metrics import last_row
from mamba_slm.runs.record import RunRecord, read_record
from mamba_slm.runs.redact import shell_line
from mamba_slm.runs.status import observed_state, read_status

LOG_BYTES = 32_768
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
ENDED_BADLY = ("crashed", "failed", "stopped")

Facts = dict[str, Any]


def facts_of(run: RunDirectory) -> Facts:
    """Numbers, state and commands of a run; None where it does not say. Reads little, however long the run."""
    record, config = record_of(run), settings_of(run)
    train = last_row(run.metrics_file, kind="train") or {}
    validation = last_row(run.metrics_file, kind="validation") or {}
    status = None
    with contextlib.suppress(MambaSlmError):
        status = read_status(run.status_file)
    state = observed_state(run)
    measured = ("tokens", "seconds", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_bytes")
    facts: Facts = {name: number(train, name) for name in measured}
    facts |= {
        "name": run.name,
        "path": str(run.path),
        "kind": record.kind if record else None,
        "created": record.created if record else None,
        "state": state,
        "message": in_words(status.message) if status else "",
        "step": int(number(train, "step") or (status.step if status else 0) or 0),
        "steps": planned_steps(config, record),
        "validation_loss": number(validation, "loss"),
        "bits_per_byte": number(validation, "bits_per_byte"),
        "parameters": number((record.result or {}) if record else {}, "parameters")
        or number((record.estimate or {}) if record else {}, "parameters"),
        "command": shell_line(record.command) if record else None,
        "stop_command": f"mamba-slm runs stop {shlex.quote(str(run.path))}",
    }
    facts["seconds_left"] = seconds_left(facts, config) if state == "running" else None
    facts["cost_usd"] = cost_so_far(facts, record)
    facts["resume_command"], facts["cannot_resume"] = how_to_resume(run) if state in ENDED_BADLY else (None, None)
    facts["last_line"] = last_line(run.log_file) if state in ("crashed", "failed") else None
    owner = live_owner(run)
    facts["owner"] = owner.describe() if owner else None
    return facts


def in_words(message: str) -> str:
    """Why a run stopped, for people: a signal is what Stop, Ctrl-C and a scheduler send.

    >>> in_words("SIGINT"), in_words("reached its end")
    ('asked to stop (SIGINT); everything is saved', 'reached its end')
    """
    return f"asked to stop ({message}); everything is saved" if message in SIGNALS else message


def record_of(run: RunDirectory) -> RunRecord | None:
    """The record; None when it is missing, damaged or newer than this package."""
    try:
        return read_record(run.record_file)
    except MambaSlmError:
        return None


def settings_of(run: RunDirectory) -> Mapping[str, Any]:
    """config.yaml; empty when it is missing or damaged. Not to be changed: the same object comes again."""
    return {} if run.config_file.is_symlink() else settings_in(run.config_file, version_of(run.config_file))


@functools.lru_cache(maxsize=256)
def settings_in(path: Path, version: str) -> Mapping[str, Any]:
    """The settings of a file, read once for each version of it: YAML takes longer than everything else of a page."""
    try:
        return read_settings(path) if path.is_file() else {}
    except (MambaSlmError, OSError):
        return {}


def planned_steps(config: Mapping[str, Any], record: RunRecord | None) -> int | None:
    """How many steps the run will have: its limits, else the estimate made at its start."""
    train = section(config, "train")
    limits = [number(train, "max_steps")]
    tokens, batch = number(train, "max_tokens"), number(train, "batch_tokens")
    if tokens and batch:
        limits.append(-(-tokens // batch))
    known = [limit for limit in limits if limit]
    if not known and record is not None and not number(train, "max_minutes"):
        known = [steps] if (steps := number(record.estimate or {}, "steps")) else []
    return int(min(known)) if known else None


def seconds_left(facts: Facts, config: Mapping[str, Any]) -> float | None:
    """Until the first limit, at the pace of the last reported step."""
    train = section(config, "train")
    left: list[float] = []
    batch, pace = number(train, "batch_tokens"), facts["tokens_per_second"]
    if facts["steps"] and batch and pace:
        left.append(max(0, facts["steps"] - facts["step"]) * batch / pace)
    minutes = number(train, "max_minutes")
    if minutes and facts["seconds"] is not None:
        left.append(max(0.0, 60 * minutes - facts["seconds"]))
    return min(left) if left else None


def cost_so_far(facts: Facts, record: RunRecord | None) -> float | None:
    """Dollars: the price that the estimate assumed, times the time; None where it assumed none."""
    estimate = (record.estimate or {}) if record else {}
    planned, seconds = number(estimate, "cost_usd"), number(estimate, "seconds")
    return planned / seconds * facts["seconds"] if planned and seconds and facts["seconds"] else None


def how_to_resume(run: RunDirectory) -> tuple[str | None, str | None]:
    """The command, or why there is none."""
    try:
        return str(resume_command(run)), None
    except MambaSlmError as error:
        return None, error.message


def last_line(path: Path) -> str | None:
    """The last line of a log that is not empty; where that is the hint of an error, the error stands before it."""
    lines = [line for line in log_tail(path).splitlines() if line.strip()]
    has_hint = len(lines) > 1 and lines[-1].startswith("hint: ") and lines[-2].startswith("error: ")
    return "\n".join(line[:500] for line in lines[-2 if has_hint else -1 :]) or None


def log_tail(path: Path, *, most_bytes: int = LOG_BYTES) -> str:
    """The end of a log, from the beginning of a line; empty when there is none."""
    try:
        with open_plain(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most_bytes))
            data = file.read(most_bytes)
    except OSError:
        return ""
    if size > most_bytes:
        data = data[data.find(b"\n") + 1 :]
    return data.decode("utf-8", errors="replace").replace("\r", "\n")


def checkpoints_of(run: RunDirectory) -> list[Facts]:
    """The checkpoints, newest first, with what one can type about each."""
    best = run.best()
    rows = []
    for folder in reversed(run.checkpoints()):
        where = shlex.quote(str(folder))
        rows.append(
            {
                "step": step_of(folder),
                "name": folder.name,
                "bytes": folder_bytes(folder),
                "path": str(folder.absolute()),
                "is_best": best is not None and folder.name == best.name,
                "commands": {
                    "chat": f"mamba-slm chat {where}",
                    "generate": f'mamba-slm generate {where} "Once upon a time"',
                    "eval": f"mamba-slm eval {where} --benchmarks arc_easy --data-dir benchmarks",
                    "export": f"mamba-slm export gguf {where} --out " + shlex.quote(f"{run.name}.gguf"),
                },
            }
        )
    return rows


def version_of(*paths: Path) -> str:
    """Changes when one of the files or folders does."""
    parts = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{found.st_mtime_ns:x}.{found.st_size:x}")
    return "_".join(parts)
