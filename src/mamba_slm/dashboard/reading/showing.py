"""What the page of models shows of each, and of a size that nobody has trained yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.core.files import folder_bytes
from mamba_slm.dashboard.reading.anatomy import anatomy, stored_by_part
from mamba_slm.dashboard.reading.checks import checks_of
from mamba_slm.dashboard.reading.facts import settings_of
from mamba_slm.dashboard.reading.lineage import identity, lineage_of, origin_of, run_of
from mamba_slm.dashboard.reading.models import (
    OURS,
    QUANTIZED,
    RUN,
    WEIGHTS,
    Model,
    model_at,
    stored_bytes,
    trained_for,
)
from mamba_slm.dashboard.reading.places import Places
from mamba_slm.dashboard.reading.sensible import require_pattern
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, weight_bytes
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.model.quantization import Quantization
from mamba_slm.runs.evidence import section
from mamba_slm.runs.jobs import Job
from mamba_slm.runs.layout import RunDirectory, step_of

MOST_FILES = 100


def row_of(model: Model, places: Places, jobs: Sequence[Job]) -> dict[str, Any]:
    """A line of the list."""
    origin = origin_of(model, jobs)
    return {
        "path": places.typed(model.path),
        "kind": model.kind,
        "parameters": None if model.config is None else count_parameters(model.config).total,
        "stored": model.stored,
        "bytes": stored_bytes(model),
        "is_finished": model.is_finished,
        "problem": model.problem,
        "how": origin.how if origin else None,
        "from": shown_path(origin.model, places) if origin and origin.model else None,
    }


def preset_rows() -> list[dict[str, Any]]:
    """The named sizes."""
    rows = []
    for name, size in SIZES.items():
        config = preset(name)
        rows.append(
            {
                "name": name,
                "parameters": count_parameters(config).total,
                "bytes": weight_bytes(config),
                "layers": config.num_layers,
                "attention_layers": config.num_attention,
                "purpose": size.purpose,
            }
        )
    return rows


def describe(model: Model, others: Sequence[Model], places: Places, jobs: Sequence[Job]) -> dict[str, Any]:
    """Everything that is shown of a model.

    Args:
        others: all models that were found, of which some were made from this one.
    """
    found: dict[str, Any] = {
        "path": places.typed(model.path),
        "name": model.path.name,
        "kind": model.kind,
        "is_ours": model.kind in OURS,
        "is_quantized": model.kind == QUANTIZED or model.quantization is not None,
        "stored": model.stored,
        "problem": model.problem,
        "bytes": stored_bytes(model),
        "folder": places.typed(model.folder),
        "is_finished": model.is_finished,
        "trained_for": trained_for_words(model),
        "trained_context_tokens": trained_context_tokens(model),
        "lineage": [step(path, origin, places) for path, origin in lineage_of(model, jobs, places.shows)],
        "children": children_of(model, others, places, jobs),
        "checks": [asdict(check) for check in checks_of(model, jobs)],
        "report": places.typed(model.folder / "report.html") if (model.folder / "report.html").is_file() else None,
        "files": files_of(model),
        "checkpoints": checkpoints_of(model, places),
    }
    if model.config is not None:
        stored = stored_by_part(model.folder / WEIGHTS, model.config.pattern) if model.kind in OURS else {}
        found |= anatomy(model.config, stored=stored)
    return found


def describe_preset(name: str, *, layout: str | None, pattern: str | None, vocab_size: int | None) -> dict[str, Any]:
    """A named size, with other layers or another vocabulary when they are given.

    Raises:
        MambaSlmError: there is no such size, or the values do not fit together.
    """
    require_pattern(pattern or "")
    config: ModelConfig = preset(name, layout=layout, pattern=pattern, vocab_size=vocab_size)  # type: ignore[arg-type]
    return {
        "path": None,
        "name": name,
        "kind": "preset",
        "is_ours": False,
        "is_quantized": False,
        "purpose": SIZES[name].purpose,
        **anatomy(config),
    }


def trained_for_words(model: Model) -> str | None:
    """The formats that the model learnt to live with."""
    stored = trained_for(model) if model.kind in OURS else None
    try:
        return None if stored is None else str(Quantization.from_json(stored))
    except MambaSlmError:
        return None


def trained_context_tokens(model: Model) -> int | None:
    """Tokens of a row in the run that the model belongs to, which may be fewer than the model has room for."""
    run = run_of(model.path)
    tokens = section(settings_of(run), "train").get("context_tokens") if run else None
    return tokens if isinstance(tokens, int) else None


def step(path: Path, origin: Any, places: Places) -> dict[str, Any]:
    """A step of the way back."""
    return {
        "path": shown_path(path, places),
        "how": origin.how,
        "from": shown_path(origin.model, places) if origin.model else None,
        "is_here": origin.model is not None and origin.model.exists() and places.shows(origin.model.resolve()),
        "data": list(origin.data),
        "command": origin.command,
    }


def shown_path(path: Path, places: Places) -> str:
    """As one types it, whether it may be opened here or not."""
    return places.typed(path.resolve())


def children_of(
    model: Model, others: Sequence[Model], places: Places, jobs: Sequence[Job]
) -> list[dict[str, str | None]]:
    """What was made of it."""
    mine, found = identity(model.path), []
    for other in others:
        origin = origin_of(other, jobs)
        if origin and origin.model and identity(other.path) != mine and identity(origin.model) == mine:
            found.append({"path": places.typed(other.path), "kind": other.kind, "how": origin.how})
    return found


def files_of(model: Model) -> list[dict[str, Any]]:
    """The files of the model's folder, with those of folders in it as one line each."""
    if model.path.is_file():
        sizes = [model.path, model.path.with_suffix(".Modelfile")]
        return [{"name": path.name, "bytes": path.stat().st_size} for path in sizes if path.is_file()]
    rows = []
    for entry in sorted(model.folder.iterdir()):
        if not entry.name.startswith(".") and not entry.is_symlink():
            is_folder = entry.is_dir()
            size = folder_bytes(entry) if is_folder else entry.lstat().st_size
            rows.append({"name": f"{entry.name}/" if is_folder else entry.name, "bytes": size})
    return rows[:MOST_FILES]


def checkpoints_of(model: Model, places: Places) -> list[dict[str, Any]]:
    """The checkpoints of a run, newest first."""
    if model.kind != RUN:
        return []
    run = RunDirectory(model.path)
    best = run.best()
    return [
        {"step": step_of(folder), "path": places.typed(folder), "is_best": folder == best}
        for folder in reversed(run.checkpoints())
        if model_at(folder) is not None
    ]
