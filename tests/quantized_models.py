"""Quantized versions of small models: the numbers of each matrix, and the model that they stand for."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mamba_slm.export.portable import with_tensors
from mamba_slm.export.source import Source
from mamba_slm.model.quantization import PLANS, Quantization, matrix_names
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize, quantize_nearest
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
    tensors = model.state_dict()
    return {
        f"{name}.weight": quantize_nearest(tensors[f"{name}.weight"], scheme)
        for name, scheme in quantization.fitted_to(model.config).items()
        if scheme is not None
    }


def what_they_stand_for(model: LanguageModel, numbers: dict[str, QuantizedBlocks]) -> LanguageModel:
    """The same model with the values of the numbers, and with the other matrices in bfloat16's values."""
    tensors: dict[str, Tensor] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in (f"{matrix}.weight" for matrix in matrix_names(model.config)):
        tensors[name] = dequantize(numbers[name]) if name in numbers else tensors[name].bfloat16().float()
    return with_tensors(model.config, tensors)


def quantized_source(source: Source, name: str) -> Source:
    """As `open_source` opens a folder that `quantize` wrote."""
    numbers = numbers_of(source.model, QUANTIZATIONS[name])
    return replace(source, model=what_they_stand_for(source.model, numbers), quantized=numbers)
