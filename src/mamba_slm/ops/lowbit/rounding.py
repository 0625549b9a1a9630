"""Rounding a matrix to the nearest whole numbers, block by block. Letters as in `packed`; q inputs of a block."""

from __future__ import annotations

import torch
from torch import Tensor

from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.lowbit.packed import Bits, PackedWeight, pack

SLICE_WEIGHTS = 1 << 22
"""Weights rounded at once, which bounds the memory."""


def round_weight(
    weight: Tensor, *, bits: Bits, block_size: int | None = None, scale_dtype: torch.dtype = torch.float16
) -> PackedWeight:
    """Nearest multiples of a scale per block.

    8 bits: scale = max|w| / 127, numbers -127 … 127, so an entry is wrong by half a scale at most.
    4 bits: the weight of largest magnitude becomes -8 (scale = it / -8, as llama.cpp's Q4_0), so entries beyond 7.5
    scales on the other side are wrong by up to one scale, the others by half.
    Scales are rounded to `scale_dtype` before the numbers are chosen; float16 adds 2^-11 of the largest weight.

    Args:
        weight: [o i] floating point.
        block_size: inputs that share a scale; None: a whole row.

    Raises:
        ShapeError: blocks do not fit into a row, or are no multiple of 8.
        ConfigError: a weight is not finite, or too large for the scale's dtype.
    """
    o, i = weight.shape
    q = block_size or i
    if i % q:
        raise ShapeError(
            f"rows of {i} inputs cannot be cut into blocks of {q}",
            hint="choose another block size, or leave this matrix in bfloat16",
        )
    step = max(1, SLICE_WEIGHTS // i)
    parts = [
        round_rows(weight[row : row + step].float().view(-1, i // q, q), bits, scale_dtype) for row in range(0, o, step)
    ]
    numbers, scales = (torch.cat(part) for part in zip(*parts, strict=True))
    return pack(numbers.view(o, i), scales, bits=bits)


def round_rows(blocks: Tensor, bits: Bits, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Blocks [o k q] to whole numbers int8 of the same shape and scales [o k]."""
    low, high = blocks.amin(dim=2), blocks.amax(dim=2)
    if bits == 8:
        scales, limits = torch.maximum(-low, high) / 127, (-127, 127)
    else:
        scales, limits = torch.where(-low > high, low, high) / -8, (-8, 7)
    scales = scales.to(scale_dtype)
    inverse = 1 / scales.float()
    inverse = torch.where(inverse.isfinite(), inverse, 0)  # of a block of zeros
    return (blocks * inverse[..., None]).round_().clamp_(*limits).to(torch.int8), scales
