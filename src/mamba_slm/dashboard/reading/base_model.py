"""The model that a further training begins with, found and measured without torch, as the commands find it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.dashboard.reading.sensible import require_pattern, sensible
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.quantization import QUANTIZATION_KEY

WEIGHTS = ("model.safetensors", "shards.json")
MOST_BYTES = 4 * 2**20
"""Of a config."""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Sizes of a model, and where its tokenizer is."""

    folder: Path
    config: ModelConfig
    tokenizer_folder: Path
    has_adapter: bool
    """Whether an adapter is merged into it first."""
    is_quantized: bool
    """Whether it holds codes and scales instead of numbers."""


def base_model(path: Path) -> BaseModel:
    """What a path means: a model folder, a checkpoint, a run, or a run that left an adapter alone.

    Raises:
        DataError: nothing there is a model, or the base of an adapter is gone.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", hint="mamba-slm runs list shows the runs on this machine")
    found = whole_model(path)
    if found is not None:
        return model_in(found, tokenizer_folder=found, has_adapter=False)
    for adapter in (path, path / "adapter"):
        if (adapter / "adapter_config.json").is_file():
            base = whole_model(base_path(adapter)) or None
            if base is None:
                raise DataError(f"{adapter} holds an adapter, and the model that it belongs to is not there any more")
            tokenizer = adapter if (adapter / "tokenizer.json").is_file() else base
            return model_in(base, tokenizer_folder=tokenizer, has_adapter=True)
    raise DataError(
        f"{path} is not a model: it holds no config.json with weights, and no checkpoints",
        hint="give a model folder, a checkpoint or a run directory, such as runs/NAME",
    )


def whole_model(path: Path) -> Path | None:
    """The model folder that a path means, without adapters."""
    for candidate in (path, path / "model"):
        if is_model(candidate):
            return candidate
    if (path / "adapter" / "adapter_config.json").is_file():
        return None  # its checkpoints are those of an adapter
    return next((each for each in sorted(path.glob("checkpoints/step-*"), reverse=True) if is_model(each)), None)


def is_model(folder: Path) -> bool:
    """Whether config and weights are there."""
    return (folder / "config.json").is_file() and any((folder / name).exists() for name in WEIGHTS)


def base_path(adapter: Path) -> Path:
    """Where the base of an adapter is.

    Raises:
        DataError: it does not say.
    """
    own, peft = adapter / "mamba_slm_adapter.json", json_object(adapter / "adapter_config.json")
    ours = json_object(own) if own.is_file() else {}
    path, relative = ours.get("base_path") or peft.get("base_model_name_or_path"), ours.get("base_path_from_here")
    if not isinstance(path, str):
        raise DataError(f"{adapter} holds an adapter, and does not say which model it belongs to")
    if isinstance(relative, str) and not Path(path).exists():
        return Path(os.path.normpath(adapter.resolve() / relative))
    return Path(path)


def model_in(folder: Path, *, tokenizer_folder: Path, has_adapter: bool) -> BaseModel:
    """The model of a folder with weights.

    Raises:
        DataError: its sizes are damaged, or those of a newer version or another program.
    """
    file = folder / "config.json"
    stored = json_object(file)
    try:
        require_pattern(stored["model"].get("pattern"))
        config = sensible(ModelConfig(**stored["model"]))
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{file} is not the config of a model of this version: {error}") from error
    return BaseModel(
        folder=folder,
        config=config,
        tokenizer_folder=tokenizer_folder,
        has_adapter=has_adapter,
        is_quantized=stored.get(QUANTIZATION_KEY) is not None,
    )


def json_object(file: Path) -> dict[str, Any]:
    """A JSON object in a file of usual size.

    Raises:
        DataError: it is none.
    """
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            raise DataError(f"{file} is no config")
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} holds no JSON object")
    return value
