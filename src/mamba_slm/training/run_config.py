"""config.yaml of a run: the resolved settings of training, and the exact model. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mamba_slm.core.config import from_dict, load_yaml, to_dict
from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.core.files import write_text_atomic
from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig

FORMAT_VERSION = 1


def write_run_config(run: RunDirectory, config: TrainConfig, model: ModelConfig | None) -> None:
    """Write config.yaml; the model is absent until the tokenizer, and with it the vocabulary, is known."""
    content: dict[str, Any] = {"format_version": FORMAT_VERSION}
    if model is not None:
        content["model"] = to_dict(model)
    content["train"] = to_dict(config)
    write_text_atomic(run.config_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_train_settings(run: RunDirectory) -> dict[str, Any]:
    """The training settings of a run, as a layer for `core.config.resolve`.

    Raises:
        DataError: there are none.
        SetupError: written by a newer package.
    """
    settings = section(run, "train")
    if settings is None:
        raise DataError(f"{run.config_file} has no training settings", hint="start the run again in another folder")
    return dict(settings)


def named_settings(name: str) -> dict[str, Any]:
    """What `mamba-slm train --config NAME` brings: of a YAML file, of a run's config.yaml, or of a published run.

    Raises:
        DataError: no such file, or no settings in it.
    """
    from mamba_slm.training.published_runs import PUBLISHED_RUNS

    if name in PUBLISHED_RUNS and not Path(name).exists():
        return PUBLISHED_RUNS[name]().recipe()
    content = load_yaml(name)
    return content["train"] if isinstance(content.get("train"), dict) else content


def read_train_config(run: RunDirectory) -> TrainConfig:
    """The training settings of a run as a config."""
    return from_dict(TrainConfig, read_train_settings(run), where=str(run.config_file))


def read_model_config(run: RunDirectory) -> ModelConfig | None:
    """The model of a run; None as long as it has none."""
    settings = section(run, "model")
    return None if settings is None else from_dict(ModelConfig, settings, where=str(run.config_file))


def section(run: RunDirectory, name: str) -> Mapping[str, Any] | None:
    """One part of config.yaml; None without the file or the part."""
    if not run.config_file.is_file():
        return None
    content = load_yaml(run.config_file)
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise SetupError(
            f"{run.config_file} has format version {version}, this package reads up to {FORMAT_VERSION}",
            hint="it was written by a newer mamba-slm: pip install --upgrade mamba-slm",
        )
    found = content.get(name)
    return found if isinstance(found, Mapping) else None
