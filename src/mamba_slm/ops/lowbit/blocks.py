"""A quantized matrix in plain tensors, what it stands for, and rounding to the nearest. The definition of all formats.

Letters: o outputs, i inputs, k blocks of a row, q inputs of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError, ShapeError
from mamba_slm.ops.lowbit.nested import NestedScales, nest
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.ops.lowbit.tables import order_of, table_of

SLICE_WEIGHTS = 1 << 22
"""Weights rounded at once, which bounds the memory."""
TINIEST = 1e-38
"""What bitsandbytes divides by where a block is all zeros."""


@dataclass(frozen=True, kw_only=True)
class QuantizedBlocks:
    """A matrix [o i] of codes, with a scale per block."""

    scheme: Scheme
    """With the block size that this matrix has."""

    codes: Tensor
    """[o i] uint8: 0 … 255 or 0 … 15."""

    scales: Tensor
    """[o k] float16 or float32: what they are, also where they are stored in 8 bits."""

    zero_points: Tensor | None = None
    """[o k] uint8, of asymmetric whole numbers."""

    nested: NestedScales | None = None
    """How the scales are stored, with `scheme.double`."""

    def __post_init__(self) -> None:
        o, i = self.codes.shape
        fitted = self.scheme.fitted(i)
        if fitted != self.scheme or tuple(self.scales.shape) != (o, self.scheme.num_blocks(i)):
            raise ShapeError(
                f"codes {o, i} and scales {tuple(self.scales.shape)} do not fit the scheme {self.scheme}; "
                f"rows of {i} inputs can have {fitted or 'no blocks'}"
            )
        if self.codes.dtype != torch.uint8 or (self.zero_points is None) != self.scheme.symmetric:
            raise ConfigError(f"{self.scheme} needs codes in uint8, and zero points if and only if it is asymmetric")
        if (self.nested is None) == self.scheme.double:
            raise ConfigError("scales in 8 bits go with double=True, and only with it")
        if not bool(self.scales.isfinite().all()):
            raise ConfigError(f"scales must be finite in {self.scales.dtype}: weights are too large, or not numbers")

    @property
    def shape(self) -> tuple[int, int]:
        """(o, i)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def block_size(self) -> int:
        """Inputs q that share a scale."""
        return self.codes.shape[1] // self.scales.shape[1]

    def to(self, device: str | torch.device) -> QuantizedBlocks:
        """The same on a device."""
        zeros, nested = self.zero_points, self.nested
        return replace(
            self,
            codes=self.codes.to(device),
            scales=self.scales.to(device),
            zero_points=None if zeros is None else zeros.to(device),
            nested=None if nested is None else nested.to(device),
        )

    @property
    def stored_bytes(self) -> int:
        """What it takes on the disk, but for small constants."""
        return self.scheme.stored_bytes(*self.shape)


def dequantize(blocks: QuantizedBlocks) -> Tensor:
    """What a quantized matrix stands for, [o i] float32: (code - zero) * scale, or table[code] * scale.

    Each entry is one float32 product.
    """
    return values_of(blocks.codes, blocks.scales, blocks.zero_points, blocks.scheme)


def values_of(codes: Tensor, scales: Tensor, zero_points: Tensor | None, scheme: Scheme) -> Tensor:
    """`dequantize` of parts: codes [r n], scales [r m], zero points [r m] to [r n] float32; m divides n."""
    cut = codes.unflatten(1, (scales.shape[1], -1))
    if scheme.is_table:
        numbers = table_of(scheme.format).to(codes.device)[cut.int()]
    else:
        numbers = cut.float() - zeros_of(zero_points, scheme)
    return (numbers * scales.float()[..., None]).flatten(1)


def zeros_of(zero_points: Tensor | None, scheme: Scheme) -> Tensor | float:
    """The code of zero: [r m 1] float32, or the one in the middle."""
    return float(1 << (scheme.bits - 1)) if zero_points is None else zero_points.float()[..., None]


def quantize_nearest(weight: Tensor, scheme: Scheme) -> QuantizedBlocks:
    """Scales by `scales_of`, then the nearest codes; with `double`, whole numbers see the scales as they are stored.

    Args:
        weight: [o i] floating point.
        scheme: `fitted` to the row here.

    Raises:
        ShapeError: no block divides a row.
        ConfigError: a weight is not finite, or too large for the scale's dtype.
    """
    i = weight.shape[1]
    fitted = scheme.fitted(i)
    if fitted is None:
        raise ShapeError(f"no block of 8 or more divides rows of {i} inputs", hint="leave this matrix in bfloat16")
    scales, zeros = in_slices(lambda rows: scales_of(rows.float(), fitted), weight)
    assert scales is not None
    nested = nest(scales) if fitted.double else None
    used = scales if nested is None or fitted.is_table else nested.values()  # bitsandbytes rounds with the exact ones

    def choose(rows: Tensor, scales: Tensor, zeros: Tensor | None = None) -> tuple[Tensor, None]:
        return nearest_codes(rows.float(), scales, zeros, fitted), None

    codes, _ = in_slices(choose, weight, used, *([] if zeros is None else [zeros]))
    assert codes is not None
    return QuantizedBlocks(
        scheme=fitted,
        codes=codes,
        scales=scales if nested is None else nested.values(),
        zero_points=zeros,
        nested=nested,
    )


def in_slices(
    of_rows: Callable[..., tuple[Tensor, Tensor | None]], weight: Tensor, *others: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """A function of rows, applied to so many at a time that temporary tensors stay small."""
    step = max(1, SLICE_WEIGHTS // weight.shape[1])
    parts = [
        of_rows(*(tensor[row : row + step] for tensor in (weight.detach(), *others)))
        for row in range(0, weight.shape[0], step)
    ]
    first, second = zip(*parts, strict=True)
    return torch.cat(first), None if second[0] is None else torch.cat(second)


def scales_of(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor | None]:
    """Scales [r m] and zero points [r m] of whole blocks of weights [r n] float32, by the largest weights.

    int8: max|w| / 127, so numbers are -127 … 127 and an entry is wrong by half a scale at most.
    int4: the weight of largest magnitude becomes -8 (scale = it / -8, as llama.cpp's Q4_0), so entries beyond 7.5
    scales on the other side are wrong by up to one scale, the others by half. With `double` it is max|w| / 7.5, which
    has no sign and suits scales in 8 bits better.
    Asymmetric: from the least weight (or 0) to the largest (or 0), zero being a code, so that zeros stay zeros.
    nf4, fp4: max|w|, in float32 as bitsandbytes; the others in float16.
    """
    cut = weight.unflatten(1, (-1, scheme.block_size or weight.shape[1]))
    low, high = cut.amin(dim=2), cut.amax(dim=2)
    largest = torch.maximum(-low, high)
    if scheme.is_table:
        return largest, None
    top = (1 << scheme.bits) - 1
    if not scheme.symmetric:
        low, high = low.clamp(max=0), high.clamp(min=0)
        scales = to_scales((high - low) / top, scheme)
        zeros = (-low * inverse_of(scales)).round().clamp(0, top)
        return scales, zeros.to(torch.uint8)
    if scheme.format == "int8":
        scales = largest / 127
    else:
        scales = largest / 7.5 if scheme.double else torch.where(-low > high, low, high) / -8
    return to_scales(scales, scheme), None


def to_scales(scales: Tensor, scheme: Scheme) -> Tensor:
    """In the dtype that whole numbers store them in."""
    return scales if scheme.double else scales.to(torch.float16)


def inverse_of(scales: Tensor) -> Tensor:
    """1 / scale in float32, and 0 for a block of zeros."""
    inverse = 1 / scales.float()
    return torch.where(inverse.isfinite(), inverse, 0)


def nearest_codes(weight: Tensor, scales: Tensor, zero_points: Tensor | None, scheme: Scheme) -> Tensor:
    """The codes [r n] uint8 whose values lie nearest to weights [r n] float32, for scales and zero points [r m].

    Symmetric int8 leaves out the code 0, as llama.cpp and ONNX Runtime do. m divides n; a GPTQ may pass one column and
    the scale of its block.
    """
    cut = weight.unflatten(1, (scales.shape[1], -1))
    if scheme.is_table:
        table, order = table_of(scheme.format).to(weight.device), order_of(scheme.format).to(weight.device)
        middles = (table[order[:-1]] + table[order[1:]]) / 2
        shares = (cut * (1.0 / scales.float().clamp(min=TINIEST))[..., None]).clamp(-1, 1)
        return order.to(torch.uint8)[torch.bucketize(shares, middles, out_int32=True)].flatten(1)
    least = 1 if scheme.symmetric and scheme.format == "int8" else 0
    numbers = (cut * inverse_of(scales)[..., None]).round_() + zeros_of(zero_points, scheme)
    return numbers.clamp_(least, (1 << scheme.bits) - 1).to(torch.uint8).flatten(1)


def blocks_of_codes(
    codes: Tensor, scales: Tensor, zero_points: Tensor | None, scheme: Scheme, *, nested: NestedScales | None = None
) -> QuantizedBlocks:
    """For methods that choose codes [o i] and scales [o k] themselves.

    Args:
        nested: with `scheme.double`, the stored form that `scales` were read back from; None stores them so now, which
            changes them a little.
    """
    if scheme.double:
        nested = nested or nest(scales)
        scales = nested.values()
    return QuantizedBlocks(scheme=scheme, codes=codes, scales=scales, zero_points=zero_points, nested=nested)
