"""A model of transformers whose matrices are 4 bits wide, made one matrix at a time: what QLoRA puts adapters on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mamba_slm.core.allocator import give_back_freed_memory
from mamba_slm.core.errors import UsageError
from mamba_slm.finetuning.qlora.settings import LEAST_BLOCK, FourBitSettings
from mamba_slm.model.checkpoint import (
    BACKBONE_PREFIX,
    WEIGHTS_FILE,
    dtype_of,
    load_config,
    resolve_model_folder,
    stored_weights,
)
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.matrices import EMBEDDING, HEAD, matrix_names
from mamba_slm.model.packed import Matrix, empty_model
from mamba_slm.model.quantized import open_quantized, quantization_of
from mamba_slm.model.stored import open_tensors
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme

if TYPE_CHECKING:
    from mamba_slm.model.hf import HybridSlmForCausalLM


def load_four_bit_base(
    folder: Path | str,
    settings: FourBitSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> HybridSlmForCausalLM:
    """Read a model for QLoRA; `folder` is anything `resolve_model_folder` accepts.

    Matrices inside the sublayers become `FourBitProjection`s, and stay frozen. Embedding and head get `dtype`; norms,
    A_log, D, dt_bias and the convolution stay float32. A matrix is read, rounded and let go before the next one, so the
    floating-point model is never in memory as a whole. Of a folder that `mamba-slm quantize` wrote in nf4 or fp4, codes
    and scales are taken as they are.

    Args:
        settings: how matrices are rounded; of a quantized folder only what its own codes are is possible.
        dtype: of products; None: bfloat16 on GPUs that have it, float16 on others, float32 on CPUs.

    Returns:
        The model in evaluation mode, marked `is_loaded_in_4bit`, as peft and transformers want to know.

    Raises:
        DataError: not a model folder.
        CheckpointError: a damaged one.
        MissingDependencyError: bitsandbytes or transformers is not installed.
        UsageError: a folder quantized in another way than nf4 or fp4 in blocks of 32 and more.
    """
    from mamba_slm.finetuning.qlora.linear import FourBitProjection
    from mamba_slm.model.hf import HybridSlmForCausalLM
    from mamba_slm.model.hf_config import HybridSlmConfig

    device = torch.device(device)
    dtype = dtype or products_dtype(device)
    folder = resolve_model_folder(folder)
    config = load_config(folder)
    with torch.device("meta"):
        model = HybridSlmForCausalLM(HybridSlmConfig.from_architecture(config))
    for name, part in parts_of(folder, config, settings or FourBitSettings()):
        full = name if name.startswith(HEAD) else BACKBONE_PREFIX + name
        owner, _, attribute = full.rpartition(".")
        if isinstance(part, QuantizedBlocks):
            setattr(model.get_submodule(owner), attribute, FourBitProjection(part, dtype, device))
        else:
            value = part.to(device, dtype_of(name, dtype), copy=True)
            setattr(model.get_submodule(owner), attribute, nn.Parameter(value, requires_grad=False))
    model.tie_weights()
    model.config._name_or_path = str(folder)
    model.is_loaded_in_4bit = True  # type: ignore[attr-defined]
    give_back_freed_memory()
    return model.eval()


def products_dtype(device: torch.device) -> torch.dtype:
    """In which type a device multiplies fast and well enough to train."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def parts_of(folder: Path, config: ModelConfig, settings: FourBitSettings) -> Iterator[tuple[str, Matrix]]:
    """The model as a 4-bit base has it, one after the other: (module, codes) and (name in a state dict, tensor)."""
    read = rounded_parts if quantization_of(folder) is None else quantized_parts
    return read(folder, config, settings)


def rounded_parts(folder: Path, config: ModelConfig, settings: FourBitSettings) -> Iterator[tuple[str, Matrix]]:
    """Of a folder in floating point, rounded to the nearest."""
    stored_weights(folder, empty_model(config))  # says what is wrong where they do not fit the config
    schemes = {f"{name}.weight": scheme for name, scheme in settings.plan.fitted_to(config).items()}
    for stored in open_tensors(folder, "model", WEIGHTS_FILE):
        tensor = open_tensors(folder, "model", WEIGHTS_FILE)[stored]  # anew: what a mapped file read stays in memory
        name = stored.removeprefix(BACKBONE_PREFIX)
        scheme = schemes.get(name)
        if scheme is None:
            yield name, tensor
        else:
            yield name.removesuffix(".weight"), quantize_nearest(tensor, trainable(scheme, name, folder))


def quantized_parts(folder: Path, config: ModelConfig, settings: FourBitSettings) -> Iterator[tuple[str, Matrix]]:
    """Of a quantized folder: its own codes, and its embedding and head as the numbers that theirs stand for."""
    stored = open_quantized(folder)
    for name in matrix_names(config):
        matrix = stored.matrices[name]
        if isinstance(matrix, Tensor):
            yield f"{name}.weight", matrix
        elif name in (EMBEDDING, HEAD):
            yield f"{name}.weight", dequantize(matrix)
        else:
            trainable(matrix.scheme, name, folder)
            yield name, matrix
    yield from stored.others.items()


def trainable(scheme: Scheme, name: str, folder: Path) -> Scheme:
    """The scheme as it is.

    Raises:
        UsageError: bitsandbytes computes no gradients through a matrix in this scheme.
    """
    if scheme.is_table and scheme.block_size >= LEAST_BLOCK:
        return scheme
    raise UsageError(
        f"QLoRA trains over nf4 and fp4 in blocks of {LEAST_BLOCK} and more, and {name} of {folder} would be {scheme}",
        hint="give a model in floating point, or one quantized to nf4; --method lora trains over any width",
    )
