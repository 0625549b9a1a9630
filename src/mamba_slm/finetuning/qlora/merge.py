"""What QLoRA trained as an ordinary model: the adapter added to the numbers that the 4-bit base stands for.

Those are the weights that it was trained over. Added to the weights which the 4 bits were made from, it computes
something else: what rounding cost is gone, and so is what the adapter learnt to make up for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.finetuning.qlora.base import parts_of
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.model.adapter_folder import read_adapter, require_same_base
from mamba_slm.model.checkpoint import dtype_of, load_config, resolve_model_folder
from mamba_slm.model.fingerprint import fingerprint_of_folder
from mamba_slm.model.packed import empty_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize


@dataclass(frozen=True, kw_only=True)
class FourBitMerge:
    """A merged model, and how far its numbers are from the sum that was trained."""

    model: LanguageModel
    dtype: torch.dtype
    largest_error: float
    """‖stored - exact‖ / ‖exact‖ of the matrix that rounding to `dtype` changed most; 0 for float32."""
    matrix: str
    """Its name."""

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        if self.largest_error == 0:
            return f"adapter merged into what the 4 bits stand for, exactly, in {kind}"
        return (
            f"adapter merged into what the 4 bits stand for; rounding to {kind} changed a matrix by at most "
            f"{self.largest_error:.2%} ({self.matrix})"
        )


@torch.no_grad()
def merge_over_four_bits(
    base: Path | str,
    adapter: Path,
    settings: FourBitSettings | None = None,
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> FourBitMerge:
    """The model that QLoRA trained, in floating point; made one matrix at a time.

    Args:
        base: the folder that `load_four_bit_base` was given.
        adapter: the folder of the adapter.
        settings: those of `load_four_bit_base`.
        dtype: of the matrices; norms, A_log, D, dt_bias and the convolution stay float32.

    Raises:
        DataError, CheckpointError: base or adapter is missing or damaged, or the adapter belongs to another model.
        UsageError: as `load_four_bit_base`.
    """
    folder = resolve_model_folder(base)
    config = load_config(folder)
    trained = read_adapter(adapter)
    require_same_base(trained.description, fingerprint_of_folder(folder))
    tensors: dict[str, Tensor] = {}
    largest_error, matrix = 0.0, ""
    for key, part in parts_of(folder, config, settings or FourBitSettings()):
        is_packed = isinstance(part, QuantizedBlocks)
        name = f"{key}.weight" if is_packed else key
        exact = dequantize(part) if is_packed else trained.full.get(name, part).float()
        if name in trained.low_rank:
            exact = exact + trained.low_rank[name].change(exact)
        tensors[name] = exact.to(dtype_of(name, dtype), copy=True)
        error = float(torch.dist(tensors[name].float(), exact) / exact.norm().clamp(min=1e-30))
        if error > largest_error:
            largest_error, matrix = error, name.removesuffix(".weight")
    model = empty_model(config)
    model.load_state_dict(tensors, assign=True)
    return FourBitMerge(model=model, dtype=dtype, largest_error=largest_error, matrix=matrix)
