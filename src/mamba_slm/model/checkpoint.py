"""Model folders: `config.json`, `model.safetensors`, and the tokenizer beside them. Never a pickle.

A checkpoint that several processes wrote has its weights in pieces instead (`model/stored.py`); both are read alike.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError, DataError, UnknownNameError
from mamba_slm.core.files import disk_full_is_explained, write_json_atomic
from mamba_slm.model.config import MODEL_FORMAT_VERSION, ModelConfig
from mamba_slm.model.pattern import plugin_letters_in
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stored import INDEX_FILE, open_tensors
from mamba_slm.model.sublayer_plugin import origin_of, require_origin

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
BACKBONE_PREFIX = "model."
"""transformers writes it before the names of everything but the head."""
KEPT_IN_FLOAT32 = ("A_log", "D", "dt_bias", "conv_weight", "conv_bias", "norm.weight")
"""Name endings that stay float32 at any precision: rounding A_log to BF16 changes A by 0.8%, dt_bias dt by 1.6%."""


def save_model(model: LanguageModel, folder: Path, *, extra_config: dict[str, Any] | None = None) -> None:
    """Write `config.json` and `model.safetensors` into an existing folder. A tied head is written once.

    Args:
        extra_config: further keys for config.json that are not the model's own, such as the tokenizer's fingerprint.

    Raises:
        DiskFullError: no room.
    """
    save_weights(model.state_dict(), model.config, folder, extra_config=extra_config)


def save_weights(
    weights: Mapping[str, Tensor], config: ModelConfig, folder: Path, *, extra_config: dict[str, Any] | None = None
) -> None:
    """`save_model` for weights that no module of this process holds as a whole.

    Raises:
        DiskFullError: no room.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with disk_full_is_explained(folder):
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json_atomic(folder / CONFIG_FILE, config_to_json(config) | (extra_config or {}))
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # safetensors lets nobody else read what it writes


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """The config as config.json holds it."""
    stored = {"format_version": MODEL_FORMAT_VERSION, "model_type": "mamba_slm", "model": config.stored()}
    return stored | ({"plugins": origin_of(letters)} if (letters := plugin_letters_in(config.pattern)) else {})


def load_model(
    folder: Path | str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    change: Callable[[ModelConfig], ModelConfig] = lambda config: config,
    merged: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda weights: weights,
) -> LanguageModel:
    """Read a model; `folder` is anything `resolve_model_folder` accepts.

    Matrices get `dtype`; the tensors of `KEPT_IN_FLOAT32` stay float32. Of a quantized folder a `PackedModel` is made,
    whose matrices stay as they are.

    Args:
        change: of settings that its weights do not depend on, such as those of `model.stretch`.
        merged: of the weights in the file makes those of the model, as `model.adapter` does.

    Raises:
        DataError: not a model folder.
        CheckpointError: a file is damaged, or names or shapes do not fit the config.
    """
    from mamba_slm.model.quantized import is_quantized, load_quantized  # which is built upon this module

    folder = resolve_model_folder(folder)
    if is_quantized(folder):
        return load_quantized(folder, device=device, dtype=dtype, change=change)
    with torch.device("meta"):
        model = LanguageModel(change(load_config(folder)))
    tensors = merged(stored_weights(folder, model))
    cast = {name: tensor.to(device, dtype_of(name, dtype)) for name, tensor in tensors.items()}
    model.load_state_dict(cast, assign=True)
    return model.eval()


def stored_weights(folder: Path, model: LanguageModel) -> dict[str, Tensor]:
    """The weights of a model folder by the names of a state dict; whole files are mapped, and read when used.

    Args:
        model: that they must fit; on any device.

    Raises:
        CheckpointError: a file is damaged, or names or shapes do not fit the model.
    """
    path = folder / WEIGHTS_FILE
    opened = open_tensors(folder, "model", WEIGHTS_FILE)
    tensors = {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in opened.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        name = differing[0]
        raise CheckpointError(
            f"{path} does not fit its config: {name} is {found.get(name, 'missing')}, expected "
            f"{expected.get(name, 'absent')} ({len(differing)} tensors differ)"
        )
    return tensors


def dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype a tensor has in a model of the given precision."""
    return torch.float32 if name.endswith(KEPT_IN_FLOAT32) else dtype


def load_config(folder: Path) -> ModelConfig:
    """Read `config.json`.

    Raises:
        CheckpointError: unreadable, from a newer version, or not a config of ours.
    """
    path = folder / CONFIG_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version, values = stored["format_version"], stored["model"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a model config of mamba-slm: {error!r}") from error
    if not isinstance(version, int) or not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a model config of mamba-slm: format_version or model has the wrong type")
    if version > MODEL_FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this program reads up to {MODEL_FORMAT_VERSION}",
            hint="update: pip install --upgrade mamba-slm",
        )
    origins = stored.get("plugins")
    require_origin(str(values.get("pattern", "")), origins if isinstance(origins, dict) else {}, where=str(path))
    fields = set(ModelConfig.__dataclass_fields__)
    unknown = sorted(set(values) - fields)
    if unknown:
        raise CheckpointError(f"{path}: {UnknownNameError('model setting', unknown[0], fields).message}")
    try:
        return ModelConfig(**values)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path} is not a valid model config: {error}") from error


def resolve_model_folder(path: Path | str) -> Path:
    """Find the model that a path means.

    A model folder or a training checkpoint is taken as it is; a run directory means its finished model (`model/`),
    else its newest complete checkpoint.

    Raises:
        DataError: nothing there is a model; says what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist", hint="mamba-slm runs list shows the runs on this machine")
    if is_model_folder(path):
        return path
    checkpoints = sorted(path.glob("checkpoints/step-*"), reverse=True)
    for candidate in (path / "model", *checkpoints):
        if is_model_folder(candidate):
            return candidate
    from mamba_slm.model.adapter_folder import is_adapter_folder  # which is built upon this module

    if is_adapter_folder(path) or is_adapter_folder(path / "adapter"):
        raise DataError(
            f"{path} holds an adapter and no whole model, which is what is wanted here",
            hint=f"mamba-slm adapters merge {path} --into base --out FOLDER",
        )
    raise DataError(
        f"{path} is not a model: it holds no {CONFIG_FILE} with {WEIGHTS_FILE}, and no checkpoints",
        hint="give a model folder, a checkpoint or a run directory, such as runs/NAME",
    )


def is_model_folder(path: Path) -> bool:
    """Whether both files of a model are there, or the index of weights in pieces."""
    has_weights = (path / WEIGHTS_FILE).is_file() or (path / INDEX_FILE).is_file()
    return has_weights and (path / CONFIG_FILE).is_file()
