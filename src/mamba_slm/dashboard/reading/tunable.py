"""Models that can be trained further, as a command would name them."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable
from pathlib import Path

from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.dashboard.reading.facts import record_of
from mamba_slm.runs.evidence import number
from mamba_slm.runs.layout import RunDirectory

MOST_RUNS = 20
SYSTEM = f"{platform.system()} {platform.release()}"


def known_models(runs: Iterable[RunDirectory], folder: Path) -> list[str]:
    """Runs that hold a model, a checkpoint or an adapter, as paths that begin in `folder` where they can."""
    return [path_from(run.path, folder) for run in runs if has_model(run)]


def has_model(run: RunDirectory) -> bool:
    """Whether commands that want a model take this run."""
    finished = (run.path / "model" / "config.json", run.path / "adapter" / "adapter_config.json")
    return bool(run.checkpoints()) or any(file.is_file() for file in finished)


def path_from(path: Path, folder: Path) -> str:
    """The path as one types it in `folder`; begins with ./ where it would else look like an option.

    >>> path_from(Path("/srv/ada/runs/a"), Path("/srv/ada")), path_from(Path("/srv/a"), Path("/srv/ada"))
    ('runs/a', '/srv/a')
    """
    whole, base = path.absolute(), folder.absolute()
    if not whole.is_relative_to(base):
        return str(whole)
    short = str(whole.relative_to(base))
    return f"./{short}" if short.startswith("-") else short


def pace_of_tuning(runs: Iterable[RunDirectory], parameters: int) -> tuple[float | None, int]:
    """Tokens per second of a model of so many parameters, and on how many earlier fine-tunings here that rests.

    The median of those on a machine like this one, as if time grew with the number of parameters.
    """
    rates = []
    for run in runs:
        record = record_of(run)
        if record is None or record.kind != "finetune" or record.hardware.get("system") != SYSTEM:
            continue
        result = record.result or {}
        tokens, seconds, size = (number(result, name) for name in ("tokens", "seconds", "parameters"))
        if tokens and seconds and size:
            rates.append(tokens / seconds * size)
        if len(rates) == MOST_RUNS:
            break
    return (statistics.median(rates) / parameters, len(rates)) if rates and parameters else (None, 0)


def latest_alignment(runs: Iterable[RunDirectory]) -> str | None:
    """What the newest finished alignment on this computer took, in words: what is known where nothing is estimated."""
    found: list[tuple[str, str]] = []
    for run in runs:
        record = record_of(run)
        if record is None or record.kind != "align" or record.hardware.get("system") != SYSTEM:
            continue
        result = record.result or {}
        steps, seconds, memory = (number(result, name) for name in ("step", "seconds", "memory_bytes"))
        if steps and seconds and memory:
            size = number(result, "parameters")
            model = f" of {format_count(size)} parameters" if size else ""
            said = f"{run.name}{model} took {format_bytes(memory)} and {seconds / steps:.2g} s a step"
            found.append((record.created, said))
    return max(found)[1] if found else None
