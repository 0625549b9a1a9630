"""Everything a run directory says, read at once; what is absent or damaged is listed instead of raised."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mamba_slm.core.errors import DataError, MambaSlmError
from mamba_slm.runs.before_after import FILE, Change, read_changes
from mamba_slm.runs.jsonl import read_json_lines
from mamba_slm.runs.kept_settings import read_settings
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.record import RunRecord, read_record
from mamba_slm.runs.status import Status, read_status

Row = Mapping[str, Any]
T = TypeVar("T")
TUNED = ("finetune", "align")
"""Kinds of runs that begin with a trained model."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The content of a run directory; empty or None where a file is missing or damaged."""

    run: RunDirectory
    record: RunRecord | None = None
    status: Status | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings: `model`, `train`, `data`."""

    data: Mapping[str, Any] = field(default_factory=dict)
    train: Sequence[Row] = field(default_factory=list)
    """Rows of metrics.jsonl of kind `train`, oldest first."""

    validation: Sequence[Row] = field(default_factory=list)
    layers: Sequence[Row] = field(default_factory=list)
    """Looks into the layers: update ratios, step sizes, decay lives."""
    benchmarks: Sequence[Row] = field(default_factory=list)
    """Scores of benchmarks that were asked while the run trained."""

    samples: Sequence[Row] = field(default_factory=list)
    events: Sequence[Row] = field(default_factory=list)
    """What happened: `step`, `event` and `text`."""

    changes: Sequence[Change] = field(default_factory=list)
    """Measures before and after, of a fine-tuning or alignment."""

    evaluation: Sequence[Row] = field(default_factory=list)
    """Rows with a name and a number of bits per byte."""

    problems: tuple[str, ...] = ()
    """One sentence for each file that is missing or damaged, without the run's own path."""

    @cached_property
    def columns(self) -> dict[str, list[float]]:
        """What `measured` has collected so far."""
        return {}

    def measured(self, key: str) -> list[float]:
        """The finite numbers under `key` in the training rows, oldest first."""
        if key not in self.columns:
            self.columns[key] = [value for row in self.train if (value := number(row, key)) is not None]
        return self.columns[key]

    @property
    def is_tuned(self) -> bool:
        """Whether the run changed a trained model, so that what counts is how it was before."""
        return self.record is not None and self.record.kind in TUNED

    @property
    def held_out_changes(self) -> list[Change]:
        """Measures before and after; where nobody wrote them, the held-out loss of the result."""
        before, after = (number(self.result, f"validation_loss_{when}") for when in ("before", "after"))
        if self.changes or before is None or after is None:
            return list(self.changes)
        loss = Change(
            name="held-out loss", unit="nats", better="lower", count=0, before=before, after=after, difference=None
        )
        return [loss]

    @property
    def estimate(self) -> Row:
        """What was planned; empty when nothing was."""
        return self.record.estimate or {} if self.record else {}

    @property
    def result(self) -> Row:
        """What came out; empty while the run is not finished."""
        return self.record.result or {} if self.record else {}


def read_evidence(run: str | os.PathLike[str]) -> Evidence:
    """Read what there is.

    Raises:
        SetupError: a file was written by a newer package, which this one must not misread.
    """
    directory = RunDirectory(Path(run))
    problems: list[str] = []

    def tolerantly(path: Path, read: Callable[[Path], T], empty: T, *, required: bool = True) -> T:
        if not path.exists():
            if required:
                problems.append(f"`{path.name}` is missing")
            return empty
        if not path.is_file():  # reading a pipe would wait for ever
            problems.append(f"`{path.name}` is no file")
            return empty
        try:
            return read(path)
        except MambaSlmError as error:
            if error.exit_code == 3:
                raise
            problems.append(error.message.replace(f"{directory.path}{os.sep}", ""))
        except OSError as error:
            problems.append(f"`{path.name}` cannot be read: {error.strerror}")
        return empty

    record = tolerantly(directory.record_file, read_record, None)
    rows = tolerantly(directory.metrics_file, read_json_lines, [])
    rows = [{**row, "loss": number(row, "loss")} for row in rows if isinstance(row.get("step"), int)]
    return Evidence(
        run=directory,
        record=record,
        status=tolerantly(directory.status_file, read_status, None),
        config=tolerantly(directory.config_file, read_settings, {}),
        data=tolerantly(directory.data_file, read_json_object, {}),
        train=[row for row in rows if row.get("kind") == "train"],
        validation=[row for row in rows if row.get("kind") == "validation"],
        layers=[row for row in rows if row.get("kind") == "layers"],
        benchmarks=tolerantly(directory.benchmarks_file, read_json_lines, [], required=False),
        samples=tolerantly(directory.samples_file, read_samples, []),
        events=tolerantly(directory.events_file, read_events, [], required=False),
        changes=tolerantly(directory.path / FILE, read_changes, [], required=False),
        evaluation=tolerantly(
            directory.evaluation_file, read_evaluation, [], required=record is None or record.kind == "quickstart"
        ),
        problems=tuple(problems),
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        DataError: it does not.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} does not hold a JSON object")
    return value


def read_evaluation(path: Path) -> list[Row]:
    """The rows of evaluation.json that have a name and bits per byte above 0.

    Raises:
        DataError: not a JSON list.
    """
    value = read_json(path)
    if not isinstance(value, list):
        raise DataError(f"{path} does not hold a JSON list")
    rows = [row for row in value if isinstance(row, dict) and isinstance(row.get("name"), str)]
    return [row for row in rows if (number(row, "bits_per_byte") or 0) > 0]


def read_samples(path: Path) -> list[Row]:
    """The rows of samples.jsonl that have step, prompt and text."""
    return [
        row
        for row in read_json_lines(path)
        if isinstance(row.get("step"), int) and isinstance(row.get("text"), str) and isinstance(row.get("prompt"), str)
    ]


def read_events(path: Path) -> list[Row]:
    """The rows of events.jsonl with `event` and `text`, which the trainer calls `kind` and `message`."""
    return [
        {**row, "event": row.get("event") or row.get("kind"), "text": row.get("text") or row.get("message") or ""}
        for row in read_json_lines(path)
    ]


def read_json(path: Path) -> Any:
    """Any JSON file.

    Raises:
        DataError: not JSON.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=lambda _constant: None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error})") from error


def number(row: Row, key: str) -> float | None:
    """`row[key]` if it is a finite number, else None."""
    value = row.get(key)
    if type(value) is float:  # nearly always, in the 100,000 rows of a long run
        return value if math.isfinite(value) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None


def section(content: Row, key: str) -> Row:
    """`content[key]` if it is a mapping, else an empty one."""
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}


def row_list(content: Row, key: str) -> list[Row]:
    """The mappings in the list `content[key]`; empty when it is no list."""
    value = content.get(key)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
