"""Block quantization of matrices, in the layout of MatMulNBits: one float32 scale per block of inputs.

Letters: o outputs, i inputs, k blocks of a row, q weights of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import ConfigError

SCALE_CANDIDATES = 17
"""Scales tried per block of 4 bits."""
SMALLEST_SHARE = 0.75
"""Of the scale that clips nothing: how far the search goes down."""


@dataclass(frozen=True, kw_only=True)
class QuantizedMatrix:
    """A matrix [o i] of whole numbers and scales."""

    bits: int
    shape: tuple[int, int]
    """[o i]."""
    values: NDArray[np.uint8]
    """[o k q·bits/8]; of two values in a byte the first has the lower bits."""
    scales: NDArray[np.float32]
    """[o k]."""
    zero_points: NDArray[np.uint8] | None = None
    """[o k]; None: 2^(bits - 1) everywhere."""

    @property
    def block_size(self) -> int:
        """Weights that share a scale."""
        return self.shape[1] // self.scales.shape[1]

    def codes(self) -> NDArray[np.uint8]:
        """The numbers as stored, [o i], 0 … 2^bits - 1."""
        flat = self.values.reshape(self.shape[0], -1)
        if self.bits == 8:
            return flat
        return np.stack([flat & 15, flat >> 4], axis=-1).reshape(self.shape).astype(np.uint8)

    def numbers(self) -> NDArray[np.int8]:
        """The whole numbers [o i] of a matrix without zero points, around 0."""
        return (self.codes().astype(np.int16) - (1 << (self.bits - 1))).astype(np.int8)

    def dequantized(self) -> NDArray[np.float32]:
        """What the matrix stands for, [o i]."""
        zeros = np.float32(1 << (self.bits - 1)) if self.zero_points is None else self.zero_points[..., None]
        blocks = self.codes().reshape(*self.scales.shape, -1).astype(np.float32)
        return ((blocks - zeros) * self.scales[..., None]).reshape(self.shape)

    def packed_zero_points(self) -> NDArray[np.uint8] | None:
        """The zero points in the layout of the values: [o k·bits/8], rounded up."""
        if self.zero_points is None or self.bits == 8:
            return self.zero_points
        padded = np.pad(self.zero_points, ((0, 0), (0, self.zero_points.shape[1] % 2)))
        return (padded[:, ::2] | padded[:, 1::2] << 4).astype(np.uint8)


def quantize_matrix(matrix: NDArray[np.float32], *, bits: int, block_size: int) -> QuantizedMatrix:
    """Round to the nearest multiple of a scale per block.

    Of 8 bits -127 … 127 are used; of 4 bits -8 … 7, with the weight of largest magnitude at -8, and the scale with the
    least squared error is chosen among `SCALE_CANDIDATES`, some of which clip.

    Args:
        matrix: [o i].
        bits: 8 or 4.
        block_size: weights that share a scale; divides i.

    Raises:
        ConfigError: the block size does not divide the inputs.
    """
    outputs, inputs = matrix.shape
    if inputs % block_size:
        raise ConfigError(
            f"a matrix with {inputs} inputs cannot be cut into blocks of {block_size}",
            hint="choose a smaller --block-size",
        )
    blocks = matrix.reshape(outputs, inputs // block_size, block_size).astype(np.float32)
    if bits == 8:
        scales = np.abs(blocks).max(axis=-1) / 127
        numbers = rounded(blocks, scales, 127, 127)
        values: NDArray[np.uint8] = (numbers + 128).astype(np.uint8)
    else:
        numbers, scales = best_of_four_bits(blocks)
        shifted = (numbers + 8).astype(np.uint8)
        values = (shifted[..., 0::2] | (shifted[..., 1::2] << 4)).astype(np.uint8)
    return QuantizedMatrix(bits=bits, shape=(outputs, inputs), values=values, scales=scales.astype(np.float32))


def rounded(blocks: NDArray[np.float32], scales: NDArray[np.float32], low: int, high: int) -> NDArray[np.int16]:
    """The nearest whole multiples of the scales [o k], from -low to high."""
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    return np.clip(np.rint(blocks * inverse[..., None]), -low, high).astype(np.int16)


def best_of_four_bits(blocks: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Numbers [o k q] and scales [o k] of the least squared error."""
    index = np.abs(blocks).argmax(axis=-1, keepdims=True)
    full = np.take_along_axis(blocks, index, axis=-1)[..., 0] / np.float32(
        -8
    )  # signed: the extreme weight becomes exactly -8
    best_error = np.full(full.shape, np.inf, dtype=np.float32)
    best_scales: NDArray[np.float32] = full
    for share in np.linspace(SMALLEST_SHARE, 1.0, SCALE_CANDIDATES, dtype=np.float32):
        scales = full * share
        error = np.square(rounded(blocks, scales, 8, 7) * scales[..., None] - blocks).sum(axis=-1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scales = np.where(better, scales, best_scales).astype(np.float32)
    return rounded(blocks, best_scales, 8, 7), best_scales
