"""Read a GGUF of architecture `granitehybrid` as a model of ours: dequantized, reordered, and checked."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamba_slm.core.errors import DataError, MambaSlmError
from mamba_slm.export.gguf.keys import config_from_keys
from mamba_slm.export.gguf.layout import our_tensors
from mamba_slm.export.gguf.types import gguf_package
from mamba_slm.export.gguf.vocabulary import tokenizer_from_keys
from mamba_slm.export.hf.importing import fold
from mamba_slm.export.portable import with_tensors
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """What a file holds, before it is made a model."""

    path: Path
    keys: dict[str, Any]
    """All keys; float32 values as the shortest decimal number that rounds to them."""
    tensors: dict[str, Tensor]
    """Dequantized to float32, rows first."""
    types: dict[str, str]
    """Type of each tensor, such as Q8_0."""


@dataclass(frozen=True, kw_only=True)
class ReadModel:
    """A model out of a file."""

    model: LanguageModel
    """In float32, multipliers folded into the weights; every layer has a feed-forward, if only of zeros."""
    tokenizer: Tokenizer | None
    """None where the file's pre-tokenizer is none that we know."""
    file: GgufFile


def read_file(path: Path) -> GgufFile:
    """Read keys and tensors of any GGUF.

    Raises:
        DataError: the file is no GGUF, cut short, or has a type that cannot be dequantized.
        MissingDependencyError: the package gguf is not installed.
    """
    gguf = gguf_package("reading GGUF files")
    try:
        reader = gguf.GGUFReader(path)
        keys = {name: plain(field.contents()) for name, field in reader.fields.items()}
        tensors = {
            tensor.name: torch.from_numpy(
                np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            ).reshape(tuple(int(size) for size in reversed(tensor.shape)))
            for tensor in reader.tensors
        }
        types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OSError, NotImplementedError, struct.error) as error:
        raise DataError(
            f"{path} cannot be read as GGUF: {error or type(error).__name__}",
            hint="the file is damaged or cut short; copy or export it again",
        ) from error
    return GgufFile(path=path, keys=keys, tensors=tensors, types=types)


def plain(value: Any) -> Any:
    """A value of the metadata in Python's own types.

    >>> plain(float(np.float32(1e-5)))
    1e-05
    """
    if isinstance(value, float):
        return float(str(np.float32(value)))
    return value


def read_gguf(path: Path) -> ReadModel:
    """The model, and the tokenizer where it is known.

    Raises:
        DataError: no GGUF, another architecture, or tensors that do not fit the keys.
        ConfigError: the file computes something that our model does not; names it.
        MissingDependencyError: the package gguf is not installed.
    """
    file = read_file(path)
    try:
        config, multipliers = config_from_keys(file.keys, tied="output.weight" not in file.tensors)
        tensors = our_tensors(file.tensors, config)
    except MambaSlmError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    model = with_tensors(config, fold(tensors, config, multipliers) if multipliers else tensors)
    return ReadModel(model=model, tokenizer=tokenizer_from_keys(file.keys), file=file)
