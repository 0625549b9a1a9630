"""Quantized versions of small models: the numbers of each matrix, and the model that they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mamba_slm.export.source import Source
from mamba_slm.model.packed import dequantized_model, nearest
from mamba_slm.model.quantization import PLANS, Quantization
from mamba_slm.model.quantized import save_quantized
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.scheme import Scheme

ASYMMETRIC = {
    "int4 with zero points": Quantization(default=Scheme(format="int4", symmetric=False)),
    "int8 with zero points": Quantization(default=Scheme(format="int8", symmetric=False)),
}
NESTED = {"int4, scales in 8 bits": Quantization(default=Scheme(format="int4", double=True))}
PARTLY = {"int4 beside bfloat16": PLANS["int4"].keeping({"in_proj": None, "k_proj": None})}
QUANTIZATIONS = {**PLANS, **ASYMMETRIC, **NESTED, **PARTLY}


def numbers_of(model: LanguageModel, quantization: Quantization) -> dict[str, QuantizedBlocks]:
    """Every matrix that the plan quantizes, rounded to the nearest; by the name of its tensor."""
    matrices = nearest(model, quantization)
    return {f"{name}.weight": each for name, each in matrices.items() if isinstance(each, QuantizedBlocks)}


def what_they_stand_for(model: LanguageModel, quantization: Quantization) -> LanguageModel:
    """The same model with the values of the numbers, and with the other matrices in bfloat16's values."""
    matrices = {
        name: each if isinstance(each, QuantizedBlocks) else each.bfloat16()
        for name, each in nearest(model, quantization).items()
    }
    return dequantized_model(model.config, matrices, model.state_dict())


def quantized_source(source: Source, name: str) -> Source:
    """As `open_source` opens a folder that `quantize` wrote."""
    quantization = QUANTIZATIONS[name]
    numbers = numbers_of(source.model, quantization)
    return replace(source, model=what_they_stand_for(source.model, quantization), quantized=numbers)


def save_quantized_model(model: LanguageModel, folder: Path, name: str) -> Path:
    """Write a model folder as `quantize` does, without a tokenizer."""
    folder.mkdir(parents=True)
    quantization = QUANTIZATIONS[name]
    save_quantized(folder, model.config, nearest(model, quantization), model.state_dict(), quantization)
    return folder
