"""Where a model comes from, as far as the files beside it and the jobs that were started here say."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.reading.facts import record_of, settings_of, version_of
from mamba_slm.dashboard.reading.models import LORA, Model, json_object, model_at
from mamba_slm.runs.evidence import TUNED, section
from mamba_slm.runs.jobs import Job
from mamba_slm.runs.layout import RunDirectory, is_run
from mamba_slm.runs.redact import shell_line

MOST_STEPS = 12
HOWS = {
    "train": "trained", "quickstart": "trained", "finetune": "fine-tuned", "align": "aligned",
    "convert": "converted from a Transformer", "extend": "made for a longer context",
}  # fmt: skip
FROM_COMMAND = ("convert", "extend")
WRITERS = ("quantize", "export", "adapters")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One step back."""

    how: str
    """What was done, such as "quantized to int8"."""
    model: Path | None = None
    """What it was done to; None for a training from the beginning."""
    data: tuple[str, ...] = ()
    """Sources of the training."""
    command: str | None = None
    """The command line, where it was recorded."""


def origin_of(model: Model, jobs: Sequence[Job]) -> Origin | None:
    """Where a model comes from; None where nothing says it."""
    written = writer_of(model.path, jobs)
    if written is not None:
        return of_job(written)
    run = run_of(model.path)
    if run is not None:
        return of_run(run)
    report = model.folder / "report.json"
    if model.quantization is not None and report.is_file():
        found = of_report(report, version_of(report))
        if found is not None:
            return found
    return of_adapter(model.folder) if model.kind == LORA else None


def run_of(path: Path) -> RunDirectory | None:
    """The run that a path is, or that its checkpoint, model or adapter belongs to."""
    for folder in (path, path.parent, path.parent.parent):
        if is_run(folder):
            return RunDirectory(folder)
    return None


def of_run(run: RunDirectory) -> Origin:
    """The command of a run: what it began with, and its data."""
    record, config = record_of(run), settings_of(run)
    kind = record.kind if record else "train"
    settings = section(config, kind) or section(config, "train")
    if kind in FROM_COMMAND:  # their settings are those of a training, and say nothing of the model
        words = record.command[2:3] if record else ()
        given = words[0] if words and not words[0].startswith("-") else None
    else:
        given = settings.get("model" if kind in TUNED else "initial")
    sources = settings.get("data")
    base = Path(record.working_directory) if record and record.working_directory else run.path.parent
    objective = (settings.get("objective") or settings.get("method")) if kind in TUNED else None
    how = HOWS.get(kind, kind) + (f" ({objective})" if isinstance(objective, str) else "")
    is_new = kind in ("train", "quickstart") and not given
    return Origin(
        how=f"{how} from the beginning" if is_new else how,
        model=named(given, base),
        data=tuple(map(str, sources))[:8] if isinstance(sources, list | tuple) else (),
        command=shell_line(record.command) if record else None,
    )


@functools.lru_cache(maxsize=256)
def of_report(path: Path, version: str) -> Origin | None:
    """The report that `mamba-slm quantize` left."""
    try:
        values = json_object(path)
    except MambaSlmError:
        return None
    if not isinstance(values.get("model"), str):
        return None
    how = f"quantized to {values.get('to')}, by {values.get('method')}"
    data = (f"calibrated on {values['calibrated_on']}"[:200],) if values.get("calibrated_on") else ()
    return Origin(how=how[:200], model=named(values["model"], Path()), data=data)


def of_adapter(folder: Path) -> Origin | None:
    """The base that an adapter names."""
    name = "mamba_slm_adapter.json"
    try:
        ours: Mapping[str, Any] = json_object(folder / name) if (folder / name).is_file() else {}
        base = ours.get("base_path") or json_object(folder / "adapter_config.json").get("base_model_name_or_path")
    except MambaSlmError:
        return None
    return Origin(how="adapter of", model=named(base, Path())) if isinstance(base, str) and base else None


def named(text: object, base: Path) -> Path | None:
    """The path that a file names, from a folder; None where there is none, or no path could be written so."""
    if not isinstance(text, str) or not text:
        return None
    try:
        path = base / text
        path.resolve()
        path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, links in a circle
        return None
    return path


def writer_of(path: Path, jobs: Sequence[Job]) -> Job | None:
    """The last job that wrote this path and ended well."""
    for job in reversed(jobs):
        if len(job.words) > 2 and job.words[1] in WRITERS and job.exit_code == 0 and output_of(job) == path:
            return job
    return None


def output_of(job: Job) -> Path | None:
    """What a job writes: its --out, from where the command began."""
    for place, word in enumerate(job.words):
        if word == "--out" and place + 1 < len(job.words):
            return resolved(job, job.words[place + 1])
        if word.startswith("--out="):
            return resolved(job, word.removeprefix("--out="))
    return None


def input_of(job: Job) -> Path | None:
    """The model that a job reads: the first argument of its command."""
    place = 3 if job.words[1] in ("export", "adapters") else 2
    words = job.words[place : place + 1]
    return resolved(job, words[0]) if words and not words[0].startswith("-") else None


def resolved(job: Job, text: str) -> Path:
    """A path of a command, without links."""
    return (Path(job.folder) / text).resolve()


def of_job(job: Job) -> Origin:
    """What a job did."""
    words = job.words
    what = {"quantize": "quantized", "export": f"exported as {words[2]}", "adapters": "merged"}[words[1]]
    to = re.search(r" --(?:to|weights|type|dtype)[ =](\S+)", job.command)
    return Origin(how=f"{what}{f' to {to[1]}' if to else ''}", model=input_of(job), command=job.command)


def identity(path: Path) -> Path:
    """The run that a path belongs to, else the path itself: models of one run count as one."""
    run = run_of(path)
    return (run.path if run is not None else path).resolve()


def lineage_of(model: Model, jobs: Sequence[Job], shows: Callable[[Path], bool]) -> list[tuple[Path, Origin]]:
    """The way back from a model, its own step first; ends where nothing says more, or at what is not here any more.

    Args:
        shows: whether a path without links may be looked at: a card may name any file of the machine.
    """
    steps: list[tuple[Path, Origin]] = []
    seen: set[Path] = set()
    now: Model | None = model
    while now is not None and len(steps) < MOST_STEPS:
        origin = origin_of(now, jobs)
        if origin is None or identity(now.path) in seen:
            break
        seen.add(identity(now.path))
        steps.append((now.path, origin))
        now = model_at(origin.model) if origin.model is not None and shows(origin.model.resolve()) else None
    return steps
