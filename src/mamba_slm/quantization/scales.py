"""Scales that make the error small instead of making the largest weight fit: least squares, and half-quadratic (HQQ).

For a block of weights w with importance h, codes c and numbers n(c) (whole numbers around zero, or values of a table),

    least squares    min over s  of  sum of h (w - n s)^2,    codes being the nearest for each s tried
    HQQ              min over s  of  sum of |w - n s|^p,  p < 1, by turns for e = shrunk (w - n s), codes, and s

The first tries scales smaller than that of the largest weight, and ends with the closed form s = sum(h w n) /
sum(h n^2) for the codes found. HQQ follows Badri & Shaji, "Half-Quadratic Quantization of Large Machine Learning
Models" (2023), whose zero points are real numbers; here they are the whole numbers that are stored, or none.

Letters: r rows, n inputs of whole blocks, m blocks of a row, q inputs of a block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.lowbit.blocks import (
    QuantizedBlocks,
    blocks_of_codes,
    in_slices,
    nearest_codes,
    scales_of,
    to_scales,
    values_of,
    zeros_of,
)
from mamba_slm.ops.lowbit.nested import nest
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.ops.lowbit.tables import table_of

SHARES = tuple(1 - 0.04 * step for step in range(1, 11))
"""Of the scale that fits the largest weight, what is tried besides."""
HQQ_STEPS = 20
HQQ_NORM = 0.7
HQQ_BETA = 10.0
HQQ_GROWTH = 1.01


def least_squares_scales(
    weight: Tensor, scheme: Scheme, importance: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Scales [r m] and zero points [r m] of weights [r n] float32, never worse than those of `scales_of`.

    Args:
        scheme: `fitted` to the row.
        importance: [n] of each input; None: all the same.
    """
    best, zeros = scales_of(weight, scheme)
    largest, shape = best, best.shape
    least = block_errors(weight, best, zeros, scheme, importance)
    signs = (1, -1) if scheme.symmetric and not scheme.is_table and not scheme.double else (1,)
    for share in SHARES:
        for sign in signs:
            tried = in_dtype(largest.float() * (sign * share), scheme)
            best, zeros, least = better_of(weight, best, zeros, least, tried, scheme, importance)
    for _ in range(2):
        tried = in_dtype(closed_form(weight, best, zeros, scheme, importance), scheme)
        best, zeros, least = better_of(weight, best, zeros, least, tried, scheme, importance)
    assert best.shape == shape
    return best, zeros


def better_of(
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    errors: Tensor,
    tried: Tensor,
    scheme: Scheme,
    importance: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Block by block the scales with the smaller error, their zero points, and the error."""
    tried_zeros = None if zeros is None else middle_zeros(weight, tried, scheme)
    found = block_errors(weight, tried, tried_zeros, scheme, importance)
    is_better = found < errors
    if zeros is not None and tried_zeros is not None:
        zeros = torch.where(is_better, tried_zeros, zeros)
    return torch.where(is_better, tried, scales), zeros, torch.where(is_better, found, errors)


def middle_zeros(weight: Tensor, scales: Tensor, scheme: Scheme) -> Tensor:
    """Zero points [r m] uint8 that put the middle of a block's range into the middle of the codes."""
    cut = weight.unflatten(1, (scales.shape[1], -1))
    low, high = cut.amin(dim=2).clamp(max=0), cut.amax(dim=2).clamp(min=0)
    top = (1 << scheme.bits) - 1
    inverse = torch.where(scales == 0, 0, 1 / scales.float())
    return (top / 2 - (low + high) / 2 * inverse).round().clamp(0, top).to(torch.uint8)


def block_errors(
    weight: Tensor, scales: Tensor, zeros: Tensor | None, scheme: Scheme, importance: Tensor | None
) -> Tensor:
    """Sum of h (w - value)^2 of every block: [r m]."""
    codes = nearest_codes(weight, scales, zeros, scheme)
    errors = (weight - values_of(codes, scales, zeros, scheme)).square_()
    if importance is not None:
        errors = errors * importance
    return errors.unflatten(1, (scales.shape[1], -1)).sum(dim=2)


def numbers_of(weight: Tensor, scales: Tensor, zeros: Tensor | None, scheme: Scheme) -> Tensor:
    """The numbers that the nearest codes stand for, without scale: [r m q] float32."""
    codes = nearest_codes(weight, scales, zeros, scheme).unflatten(1, (scales.shape[1], -1))
    if scheme.is_table:
        return table_of(scheme.format).to(codes.device)[codes.int()]
    return codes.float() - zeros_of(zeros, scheme)


def closed_form(
    weight: Tensor, scales: Tensor, zeros: Tensor | None, scheme: Scheme, importance: Tensor | None
) -> Tensor:
    """sum(h w n) / sum(h n^2) for the codes that `scales` give: [r m] float32; the same scales where n is 0."""
    numbers = numbers_of(weight, scales, zeros, scheme)
    cut = weight.unflatten(1, (scales.shape[1], -1))
    weighted = numbers if importance is None else numbers * importance.unflatten(0, (scales.shape[1], -1))
    squares = (weighted * numbers).sum(dim=2)
    return torch.where(squares > 0, (weighted * cut).sum(dim=2) / squares, scales.float())


def hqq_scales(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor | None]:
    """Scales [r m] and zero points [r m] of weights [r n] float32 by half-quadratic splitting."""
    scales, zeros = scales_of(weight, scheme)
    cut = weight.unflatten(1, (scales.shape[1], -1))
    top, beta = (1 << scheme.bits) - 1, HQQ_BETA
    for _ in range(HQQ_STEPS):
        numbers = numbers_of(weight, scales, zeros, scheme)
        spread = cut.abs().amax(dim=2, keepdim=True).clamp(min=1e-30)  # the paper's weights have a spread of about 1
        error = shrunk((cut - numbers * scales.float()[..., None]) / spread, beta) * spread
        kept = cut - error
        if zeros is not None:
            codes = numbers + zeros_of(zeros, scheme)
            inverse = torch.where(scales == 0, 0, 1 / scales.float())[..., None]
            zeros = (codes - kept * inverse).mean(dim=2).round().clamp(0, top).to(torch.uint8)
            numbers = codes - zeros_of(zeros, scheme)
        squares = numbers.square().sum(dim=2)
        found = torch.where(squares > 0, (numbers * kept).sum(dim=2) / squares, scales.float())
        scales, beta = in_dtype(found, scheme), beta * HQQ_GROWTH
    return scales, zeros


def shrunk(x: Tensor, beta: float) -> Tensor:
    """The generalised soft threshold: sign(x) max(0, |x| - |x|^(p - 1) / beta)."""
    size = x.abs()
    return x.sign() * (size - size.clamp(min=1e-12).pow(HQQ_NORM - 1) / beta).clamp(min=0)


def in_dtype(scales: Tensor, scheme: Scheme) -> Tensor:
    """As they are stored, before they are put into 8 bits where they are."""
    return scales.float() if scheme.is_table else to_scales(scales, scheme)


def with_fitted_scales(weight: Tensor, scheme: Scheme) -> QuantizedBlocks:
    """A matrix [o i] with the nearest codes for the scales of `least_squares_scales`."""
    return with_scales(weight, scheme, least_squares_scales)


def with_hqq_scales(weight: Tensor, scheme: Scheme) -> QuantizedBlocks:
    """A matrix [o i] with the nearest codes for the scales of `hqq_scales`."""
    return with_scales(weight, scheme, hqq_scales)


def with_scales(
    weight: Tensor, scheme: Scheme, scales_for: Callable[[Tensor, Scheme], tuple[Tensor, Tensor | None]]
) -> QuantizedBlocks:
    """Nearest codes for the scales of a function, some rows at a time.

    Raises:
        ShapeError: no block divides a row.
        ConfigError: a weight is not finite.
    """
    fitted = scheme.fitted(weight.shape[1])
    if fitted is None:
        raise ShapeError(
            f"no block of 8 or more divides rows of {weight.shape[1]} inputs", hint="leave this matrix in bfloat16"
        )
    scales, zeros = in_slices(lambda rows: scales_for(rows.float(), fitted), weight)
    assert scales is not None
    nested = nest(scales) if fitted.double else None
    scales = scales if nested is None else nested.values()

    def choose(rows: Tensor, scales: Tensor, zeros: Tensor | None = None) -> tuple[Tensor, None]:
        return nearest_codes(rows.float(), scales, zeros, fitted), None

    codes, _ = in_slices(choose, weight, scales, *([] if zeros is None else [zeros]))
    assert codes is not None
    return blocks_of_codes(codes, scales, zeros, fitted, nested=nested)
