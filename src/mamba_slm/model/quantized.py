"""Quantized model folders: `config.json` with the key "quantization", and `model.safetensors` with codes and scales.

matrices        as `ops/lowbit/stored.py` says, or bfloat16 [o i] where they were not quantized
everything else A_log, D, dt_bias, the convolution, norms, learned positions: float32, always
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError, UnknownNameError, UsageError
from mamba_slm.core.files import disk_full_is_explained, write_json_atomic
from mamba_slm.model.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    config_to_json,
    load_config,
    resolve_model_folder,
    stored_weights,
)
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.matrices import matrix_names, matrix_shapes
from mamba_slm.model.packed import Matrix, NearestMatrices, PackedModel, dequantized_model, empty_model
from mamba_slm.model.quantization import QUANTIZATION_KEY, Quantization
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stored import open_tensors
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.ops.lowbit.stored import from_stored, stored_parts, to_stored


@dataclass(frozen=True, kw_only=True)
class QuantizedFolder:
    """A quantized model on the disk. Look-ups in `matrices` and `others` read; nothing is kept."""

    folder: Path
    config: ModelConfig
    quantization: Quantization
    """With an entry of its own for each matrix that is stored otherwise than its part."""
    matrices: Mapping[str, Matrix]
    """By the names of `matrix_names`: codes and scales, or [o i] bfloat16."""
    others: Mapping[str, Tensor]
    """Everything else, by its name in a state dict; float32."""


class StoredMatrices(Mapping[str, Matrix]):
    """Matrices of a folder by name, each read when it is looked up."""

    def __init__(self, tensors: Mapping[str, Tensor], schemes: Mapping[str, Scheme | None]):
        self.tensors, self.schemes = tensors, schemes

    def __iter__(self) -> Iterator[str]:
        return iter(self.schemes)

    def __len__(self) -> int:
        return len(self.schemes)

    def __getitem__(self, name: str) -> Matrix:
        scheme = self.schemes[name]
        return self.tensors[f"{name}.weight"] if scheme is None else from_stored(name, self.tensors, scheme)


class SomeTensors(Mapping[str, Tensor]):
    """Some of the tensors of a folder, each read when it is looked up."""

    def __init__(self, tensors: Mapping[str, Tensor], names: list[str]):
        self.tensors, self.names = tensors, dict.fromkeys(names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.tensors[name]


def save_quantized(
    folder: Path,
    config: ModelConfig,
    matrices: Mapping[str, Matrix],
    others: Mapping[str, Tensor],
    quantization: Quantization,
    *,
    extra_config: Mapping[str, Any] | None = None,
) -> Quantization:
    """Write `config.json` and `model.safetensors` into an existing folder.

    Args:
        matrices: by the names of `matrix_names`; floating-point ones are stored in bfloat16.
        others: all other tensors of the model's state dict (further names are ignored).
        quantization: what was wanted. A matrix that became something else gets an entry of its own.
        extra_config: further keys for config.json, such as the tokenizer's fingerprint.

    Returns:
        What config.json says.

    Raises:
        ConfigError: a matrix or another tensor is missing.
        DiskFullError: no room.
    """
    shapes, wanted = matrix_shapes(config), quantization.fitted_to(config)
    missing = [name for name in shapes if name not in matrices] + [n for n in other_names(config) if n not in others]
    if missing:
        raise ConfigError(f"a quantized model needs {missing[0]} ({len(missing)} tensors are missing)")
    tensors: dict[str, Tensor] = {}
    differing: dict[str, Scheme | None] = {}
    for name, shape in shapes.items():
        matrix = matrices[name]
        scheme = matrix.scheme if isinstance(matrix, QuantizedBlocks) else None
        if tuple(matrix.shape) != shape:
            raise ConfigError(f"the matrix {name} is {tuple(matrix.shape)}, expected {shape}")
        if isinstance(matrix, QuantizedBlocks):
            tensors |= to_stored(name, matrix)
        else:
            tensors[f"{name}.weight"] = matrix.detach().to("cpu", torch.bfloat16).contiguous()
        if scheme != wanted[name]:
            differing[name] = scheme
    for name in other_names(config):
        tensors[name] = others[name].detach().to("cpu", torch.float32).contiguous()
    quantization = quantization.for_model(config).keeping(differing)
    with disk_full_is_explained(folder):
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    stored_config = config_to_json(config) | {QUANTIZATION_KEY: quantization.to_json()}
    write_json_atomic(folder / CONFIG_FILE, stored_config | dict(extra_config or {}))
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # safetensors lets nobody else read what it writes
    return quantization


def other_names(config: ModelConfig) -> list[str]:
    """Names in a state dict of everything that is no matrix."""
    weights = {f"{name}.weight" for name in matrix_names(config)}
    return [name for name in empty_model(config).state_dict() if name not in weights]


def quantization_of(folder: Path | str) -> Quantization | None:
    """What config.json of a model folder says of its quantization; None for a model in floating point.

    Raises:
        DataError: not a model folder.
        CheckpointError: config.json is damaged.
    """
    path = resolve_model_folder(folder) / CONFIG_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8")).get(QUANTIZATION_KEY)
        return None if stored is None else Quantization.from_json(stored, where=f"{path}: {QUANTIZATION_KEY}")
    except (OSError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def is_quantized(folder: Path | str) -> bool:
    """Whether a model folder holds codes and scales; raises as `quantization_of`."""
    return quantization_of(folder) is not None


def require_float(folder: Path | str, *, purpose: str) -> None:
    """Raise UsageError, naming what was to be done ("training"), for a quantized model."""
    quantization = quantization_of(folder)
    if quantization is not None:
        raise UsageError(
            f"{purpose} needs a model in floating point, and {folder} is quantized ({quantization})",
            hint="give the model that it was made from",
        )


def open_quantized(folder: Path | str) -> QuantizedFolder:
    """The parts of a quantized model as they are stored, read when they are looked up.

    Raises:
        DataError: not a model folder.
        UsageError: a model in floating point.
        CheckpointError: damaged, or its tensors do not fit its config.
    """
    folder = resolve_model_folder(folder)
    quantization = quantization_of(folder)
    if quantization is None:
        raise UsageError(f"{folder} holds no quantized model", hint="mamba-slm quantize MODEL --to int8 makes one")
    config = load_config(folder)
    tensors = open_tensors(folder, "model", WEIGHTS_FILE)
    try:
        schemes = quantization.fitted_to(config)
    except UnknownNameError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error.message}") from error
    others = other_names(config)
    expected = {*others}
    for name, scheme in schemes.items():
        expected |= {f"{name}.weight"} if scheme is None else set(stored_parts(name, scheme))
    differing = sorted(expected ^ set(tensors))
    if differing:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} does not fit its config: {differing[0]} is "
            f"{'missing' if differing[0] in expected else 'not expected'} ({len(differing)} tensors differ)"
        )
    return QuantizedFolder(
        folder=folder,
        config=config,
        quantization=quantization,
        matrices=StoredMatrices(tensors, schemes),
        others=SomeTensors(tensors, others),
    )


def blocks_of(folder: Path | str, name: str) -> QuantizedBlocks:
    """One matrix as it is stored.

    Raises:
        ConfigError: there is none of this name, or it is stored in bfloat16. Else as `open_quantized`.
    """
    matrices = open_quantized(folder).matrices
    if name not in matrices:
        raise UnknownNameError("matrix", name, matrices)
    matrix = matrices[name]
    if not isinstance(matrix, QuantizedBlocks):
        raise ConfigError(f"{name} of {folder} is not quantized: it is stored in bfloat16")
    return matrix


def load_quantized(
    folder: Path | str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    change: Callable[[ModelConfig], ModelConfig] = lambda config: config,
) -> PackedModel:
    """Read a quantized model; its matrices stay packed. Memory: the packed model and one matrix more.

    Args:
        dtype: see `PackedModel`.
        change: see `load_model`.

    Raises:
        As `open_quantized`.
    """
    stored = open_quantized(folder)
    model = empty_model(change(stored.config))
    model.load_state_dict(dict(stored.others), assign=True, strict=False)
    return PackedModel(model, stored.matrices, dtype=dtype, device=device)


def load_nearest(
    folder: Path | str,
    plan: Quantization,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    change: Callable[[ModelConfig], ModelConfig] = lambda config: config,
    merged: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda weights: weights,
) -> PackedModel:
    """Read a model in floating point and round its matrices to the nearest, one at a time.

    Args:
        dtype: see `PackedModel`.
        change, merged: see `load_model`.

    Raises:
        UsageError: it is quantized already. Else as `load_model`.
    """
    require_float(folder, purpose="rounding weights while loading")
    folder = resolve_model_folder(folder)
    model = empty_model(change(load_config(folder)))
    weights = merged(stored_weights(folder, model))
    names = set(other_names(model.config))
    model.load_state_dict({name: weights[name].float() for name in names}, assign=True, strict=False)
    matrices = NearestMatrices(weights, plan.fitted_to(model.config))
    return PackedModel(model, matrices, dtype=dtype, device=device)


def load_dequantized(folder: Path | str) -> LanguageModel:
    """The model in float32 whose matrices are what those of a quantized folder stand for, to compare with.

    Raises:
        As `open_quantized`.
    """
    stored = open_quantized(folder)
    return dequantized_model(stored.config, stored.matrices, stored.others)
