"""A run in one row, for lists and comparisons; cheap to read, whatever the length of the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, MambaSlmError
from mamba_slm.runs.evidence import number, read_evaluation
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import last_row
from mamba_slm.runs.record import read_record
from mamba_slm.runs.status import observed_state, read_status


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a list of runs shows; None where the run does not say. The fields are the keys of `runs list --json`."""

    name: str
    path: str
    kind: str | None
    state: str
    """running, done, stopped, failed, crashed (says running, and nobody owns it) or unknown."""

    message: str
    created: str | None
    step: int | None
    tokens: float | None
    seconds: float | None
    loss: float | None
    """Of the last training step, in nats."""

    validation_loss: float | None
    bits_per_byte: float | None
    """Of the model on held-out text; from the evaluation, else from the last validation."""

    tokens_per_second: float | None
    memory_bytes: float | None
    parameters: float | None


def summarize(run: str | os.PathLike[str]) -> RunSummary:
    """The summary of a run; files that are missing, damaged or from a newer package count as not said."""
    directory = RunDirectory(Path(run))
    try:
        record = read_record(directory.record_file)
    except MambaSlmError:
        record = None
    try:
        status = read_status(directory.status_file)
    except MambaSlmError:
        status = None
    train = last_row(directory.metrics_file, kind="train") or {}
    validation = last_row(directory.metrics_file, kind="validation") or {}
    estimate, result = (record.estimate or {}, record.result or {}) if record else ({}, {})

    def outcome(key: str) -> float | None:
        value = number(result, key)
        return number(train, key) if value is None else value

    bits = evaluated_bits_per_byte(directory)
    parameters = number(result, "parameters")
    step = number(train, "step")
    return RunSummary(
        name=directory.name,
        path=str(directory.path),
        kind=record.kind if record else None,
        state=observed_state(directory),
        message=status.message if status else "",
        created=record.created or None if record else None,
        step=int(step) if step is not None else status.step if status else None,
        tokens=outcome("tokens"),
        seconds=outcome("seconds"),
        loss=number(train, "loss"),
        validation_loss=number(validation, "loss"),
        bits_per_byte=number(validation, "bits_per_byte") if bits is None else bits,
        tokens_per_second=number(train, "tokens_per_second"),
        memory_bytes=outcome("memory_bytes"),
        parameters=number(estimate, "parameters") if parameters is None else parameters,
    )


def evaluated_bits_per_byte(run: RunDirectory) -> float | None:
    """The model's row of evaluation.json; None when there is none."""
    if not run.evaluation_file.exists():
        return None
    try:
        rows = read_evaluation(run.evaluation_file)
    except DataError:
        return None
    return next((row["bits_per_byte"] for row in rows if row["name"] == "model"), None)


def has_begun(run: RunDirectory) -> bool:
    """Whether there is something to go on from or to look at: a checkpoint, or a step."""
    return run.latest() is not None or last_row(run.metrics_file, kind="train") is not None


def flat_settings(config: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys, in their order.

    >>> flat_settings({"model": {"hidden_size": 128}, "seed": 7})
    {'model.hidden_size': 128, 'seed': 7}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
