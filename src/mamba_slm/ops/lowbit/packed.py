"""Matrices of 8 or 4 bits with one scale per block of inputs, in the order that processors like to read.

Of a matrix [o i], sixteen rows lie together: a word of 32 bits holds neighbouring inputs of one row, the words of the
sixteen rows follow one another, then come the next inputs. So one vector register holds a piece of sixteen rows, a
product reads memory from the first byte to the last, and needs no sum across a register at its end.

Letters: o outputs, i inputs, s panels of sixteen outputs, w words of a row, k blocks of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import ConfigError, ShapeError

PANEL_ROWS = 16

Bits = Literal[4, 8]


@dataclass(frozen=True, kw_only=True)
class PackedWeight:
    """A matrix [o i] of whole numbers n, and scales: its entries are n * scale of the block.

    With 8 bits n is -128 … 127, with 4 bits -8 … 7; what is stored is n + 2^(bits - 1), never negative.
    """

    bits: Bits

    num_outputs: int
    """Rows o; those that fill the last panel up are zero and count for nothing."""

    words: Tensor
    """[s w 16] int32. Byte j of a word: input j of its four (8 bits), or inputs j and j + 4 of its eight in the lower
    and the upper half (4 bits); the lowest byte is byte 0."""

    scales: Tensor
    """[s k 16] float16 or float32."""

    @property
    def num_inputs(self) -> int:
        """Columns i."""
        return self.words.shape[1] * 32 // self.bits

    @property
    def block_size(self) -> int:
        """Inputs that share a scale."""
        return self.num_inputs // self.scales.shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory of words and scales."""
        return self.words.nbytes + self.scales.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Scales included, padding rows left out."""
        return self.bits + 8 * self.scales.element_size() / self.block_size


def pack(numbers: Tensor, scales: Tensor, *, bits: Bits) -> PackedWeight:
    """Whole numbers [o i] of any integer dtype and scales [o k], float16 or float32, in the packed order.

    >>> weight = pack(torch.tensor([[-8, 7, 0, 1] * 8]), torch.tensor([[0.5]]), bits=4)
    >>> unpack(weight)[0, :4].tolist(), weight.bits_per_weight
    ([-4.0, 3.5, 0.0, 0.5], 5.0)

    Raises:
        ShapeError: k does not divide i, or a block is no multiple of 8 inputs.
        ConfigError: numbers outside the range, or scales that are not finite.
    """
    half = 1 << (bits - 1)
    numbers = numbers.to(torch.int16)
    o, i = numbers.shape
    check_blocks(i, scales.shape[1])
    if o != scales.shape[0]:
        raise ShapeError(f"numbers [o i] have o={o}, but scales [o k] have o={scales.shape[0]}")
    if bool((numbers < -half).any()) or bool((numbers >= half).any()):
        raise ConfigError(f"whole numbers of {bits} bits lie in {-half} … {half - 1}")
    if not bool(scales.isfinite().all()):
        raise ConfigError(f"scales must be finite in {scales.dtype}: the weights are too large, or not numbers")
    stored = (numbers + half).to(torch.uint8)
    if bits == 4:
        low, high = stored.view(o, i // 8, 2, 4).unbind(2)
        stored = low | high << 4
    rows = stored.view(o, -1).view(torch.int32)
    return PackedWeight(bits=bits, num_outputs=o, words=to_panels(rows), scales=to_panels(scales))


def to_panels(rows: Tensor) -> Tensor:
    """[o n] to [s n 16], filled up with zeros."""
    o, n = rows.shape
    return F.pad(rows, (0, 0, 0, -o % PANEL_ROWS)).view(-1, PANEL_ROWS, n).transpose(1, 2).contiguous()


def from_panels(panels: Tensor, num_outputs: int) -> Tensor:
    """[s n 16] to [o n]."""
    return panels.transpose(1, 2).flatten(0, 1)[:num_outputs]


def check_blocks(num_inputs: int, num_blocks: int) -> None:
    """Raise ShapeError unless a row can be cut into so many blocks of whole words."""
    if num_blocks < 1 or num_inputs % num_blocks or num_inputs // num_blocks % 8:
        raise ShapeError(
            f"rows of {num_inputs} inputs cannot be cut into {num_blocks} blocks of a multiple of 8 inputs",
            hint="choose another block size, or leave this matrix in bfloat16",
        )


def numbers_of(weight: PackedWeight) -> Tensor:
    """The whole numbers [o i] int8, around 0."""
    return to_numbers(from_panels(weight.words, weight.num_outputs), weight.bits)


def to_numbers(words: Tensor, bits: Bits) -> Tensor:
    """Words of rows [r w] to the whole numbers [r i] int8 that they hold."""
    stored = words.contiguous().view(torch.uint8)
    if bits == 4:
        low, high = (stored & 15).unflatten(1, (-1, 4)), (stored >> 4).unflatten(1, (-1, 4))
        stored = torch.stack([low, high], dim=2).flatten(1)
    return (stored.to(torch.int16) - (1 << (bits - 1))).to(torch.int8)


def scales_of(weight: PackedWeight) -> Tensor:
    """[o k], as stored."""
    return from_panels(weight.scales, weight.num_outputs)


def unpack(weight: PackedWeight, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the matrix stands for, [o i]; each entry is one float32 product, rounded once to `dtype`."""
    return scaled(numbers_of(weight), scales_of(weight)).to(dtype)


def unpack_rows(weight: PackedWeight, rows: Tensor) -> Tensor:
    """The given rows of the matrix, [r] int64, as float32 [r i]."""
    panel, lane = rows // PANEL_ROWS, rows % PANEL_ROWS
    return scaled(to_numbers(weight.words[panel, :, lane], weight.bits), weight.scales[panel, :, lane])


def scaled(numbers: Tensor, scales: Tensor) -> Tensor:
    """Numbers [r i] times the scales [r k] of their blocks, float32."""
    return (numbers.unflatten(1, (scales.shape[1], -1)) * scales.float()[..., None]).flatten(1)


def linear_reference(x: Tensor, weight: PackedWeight) -> Tensor:
    """x [... i] times the matrix transposed: [... o] in the dtype of x, computed in float32. The definition."""
    return F.linear(x.float(), unpack(weight)).to(x.dtype)
