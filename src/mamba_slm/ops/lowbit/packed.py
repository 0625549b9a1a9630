"""Matrices of 8 or 4 bits with one scale per block of inputs, in the order that processors like to read.

Of a matrix [o i], sixteen rows lie together: a word of 32 bits holds neighbouring inputs of one row, the words of the
sixteen rows follow one another, then come the next inputs. So one vector register holds a piece of sixteen rows, a
product reads memory from the first byte to the last, and needs no sum across a register at its end.

Letters: o outputs, i inputs, s panels of sixteen outputs, w words of a row, k blocks of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import ConfigError, ShapeError
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.scheme import Activations
from mamba_slm.ops.lowbit.tables import table_of

PANEL_ROWS = 16
ACTIVATION_BLOCK = 32
"""Inputs that are rounded to 8 bits together, as in llama.cpp's Q8_0."""

Bits = Literal[4, 8]


@dataclass(frozen=True, kw_only=True)
class PackedWeight:
    """A matrix [o i] of codes and scales: its entries are (code - zero point) * scale, or table[code] * scale."""

    bits: Bits

    num_outputs: int
    """Rows o; those that fill the last panel up are zero and count for nothing."""

    words: Tensor
    """[s w 16] int32 of codes, 0 … 255 or 0 … 15. Byte j of a word: input j of its four (8 bits), or inputs j and j + 4
    of its eight in the lower and the upper half (4 bits); the lowest byte is byte 0."""

    scales: Tensor
    """[s k 16] float16 or float32."""

    zero_points: Tensor | None = None
    """[s k 16] uint8, per block; None: 2^(bits - 1) everywhere, or a table."""

    table: Tensor | None = None
    """[16] float32 that codes of 4 bits stand for, instead of whole numbers."""

    activations: Activations = "float"
    """What inputs of a product are rounded to before, see `rounded_activations`."""

    @property
    def num_inputs(self) -> int:
        """Columns i."""
        return self.words.shape[1] * 32 // self.bits

    @property
    def block_size(self) -> int:
        """Inputs that share a scale."""
        return self.num_inputs // self.scales.shape[1]

    @property
    def tensors(self) -> list[Tensor]:
        """What a product reads, row after row; see `with_tensors`."""
        return [tensor for tensor in (self.words, self.scales, self.zero_points) if tensor is not None]

    def with_tensors(self, tensors: Iterator[Tensor]) -> PackedWeight:
        """The same values elsewhere: as many tensors as `tensors` has, in its order."""
        words, scales = next(tensors), next(tensors)
        zero_points = None if self.zero_points is None else next(tensors)
        return replace(self, words=words, scales=scales, zero_points=zero_points)

    @property
    def num_bytes(self) -> int:
        """Memory of codes, scales and zero points."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Scales and zero points included, padding rows left out."""
        of_block = self.scales.element_size() + (self.zero_points is not None)
        return self.bits + 8 * of_block / self.block_size


def pack_codes(
    codes: Tensor,
    scales: Tensor,
    *,
    bits: Bits,
    zero_points: Tensor | None = None,
    table: Tensor | None = None,
    activations: Activations = "float",
) -> PackedWeight:
    """Codes [o i] uint8, scales [o k], zero points [o k] uint8 or a table [16], in the packed order.

    >>> weight = pack_codes(torch.tensor([[0, 15, 8, 9] * 8], dtype=torch.uint8), torch.tensor([[0.5]]), bits=4)
    >>> unpack(weight)[0, :4].tolist(), weight.bits_per_weight
    ([-4.0, 3.5, 0.0, 0.5], 5.0)

    Raises:
        ShapeError: k does not divide i, a block is no multiple of 8 inputs, or the letters disagree.
        ConfigError: codes outside the range, scales that are not finite, or a table for 8 bits.
    """
    o, i = codes.shape
    check_blocks(i, scales.shape[1])
    if o != scales.shape[0]:
        raise ShapeError(f"codes [o i] have o={o}, but scales [o k] have o={scales.shape[0]}")
    if zero_points is not None and zero_points.shape != scales.shape:
        raise ShapeError(f"scales are {list(scales.shape)} [o k], but zero points {list(zero_points.shape)}")
    if not bool(scales.isfinite().all()):
        raise ConfigError(f"scales must be finite in {scales.dtype}: the weights are too large, or not numbers")
    if table is not None and (bits == 8 or activations == "int8" or zero_points is not None):
        raise ConfigError("a table of 16 values goes with codes of 4 bits, float activations and no zero points")
    if bits == 4:
        if bool((codes > 15).any()):
            raise ConfigError("codes of 4 bits lie in 0 … 15")
        low, high = codes.reshape(o, i // 8, 2, 4).unbind(2)
        codes = (low | high << 4).flatten(1)
    return PackedWeight(
        bits=bits,
        num_outputs=o,
        words=to_panels(codes.contiguous().view(torch.int32)),
        scales=to_panels(scales),
        zero_points=None if zero_points is None else to_panels(zero_points),
        table=None if table is None else table.float().contiguous(),
        activations=activations,
    )


def pack_blocks(blocks: QuantizedBlocks) -> PackedWeight:
    """A quantized matrix in the packed order; `unpack` of it is `dequantize` of the blocks, to the last bit."""
    scheme = blocks.scheme
    return pack_codes(
        blocks.codes,
        blocks.scales,
        bits=8 if scheme.bits == 8 else 4,
        zero_points=blocks.zero_points,
        table=table_of(scheme.format).to(blocks.codes.device) if scheme.is_table else None,
        activations=scheme.activations,
    )


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


def codes_of(weight: PackedWeight) -> Tensor:
    """The codes [o i] uint8."""
    return to_codes(from_panels(weight.words, weight.num_outputs), weight.bits)


def to_codes(words: Tensor, bits: Bits) -> Tensor:
    """Words of rows [r w] to the codes [r i] uint8 that they hold."""
    stored = words.contiguous().view(torch.uint8)
    if bits == 4:
        low, high = (stored & 15).unflatten(1, (-1, 4)), (stored >> 4).unflatten(1, (-1, 4))
        stored = torch.stack([low, high], dim=2).flatten(1)
    return stored


def scales_of(weight: PackedWeight) -> Tensor:
    """[o k], as stored."""
    return from_panels(weight.scales, weight.num_outputs)


def unpack(weight: PackedWeight, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the matrix stands for, [o i]; each entry is one float32 product, rounded once to `dtype`."""
    zero_points = None if weight.zero_points is None else from_panels(weight.zero_points, weight.num_outputs)
    return entries(weight, codes_of(weight), scales_of(weight), zero_points).to(dtype)


def unpack_rows(weight: PackedWeight, rows: Tensor) -> Tensor:
    """The given rows of the matrix, [r] int64, as float32 [r i]."""
    panel, lane = rows // PANEL_ROWS, rows % PANEL_ROWS
    codes = to_codes(weight.words[panel, :, lane], weight.bits)
    zero_points = None if weight.zero_points is None else weight.zero_points[panel, :, lane]
    return entries(weight, codes, weight.scales[panel, :, lane], zero_points)


def entries(weight: PackedWeight, codes: Tensor, scales: Tensor, zero_points: Tensor | None) -> Tensor:
    """Codes [r i], scales and zero points [r k] of rows of a matrix to its entries, float32 [r i]."""
    blocks = codes.unflatten(1, (scales.shape[1], -1))
    if weight.table is not None:
        values = weight.table[blocks.int()]
    elif zero_points is not None:
        values = blocks.float() - zero_points.float()[..., None]
    else:
        values = blocks.float() - (1 << (weight.bits - 1))
    return (values * scales.float()[..., None]).flatten(1)


def linear_reference(x: Tensor, weight: PackedWeight) -> Tensor:
    """x [... i] times the matrix transposed: [... o] in the dtype of x, computed in float32. The definition."""
    inputs = x.float() if weight.activations == "float" else rounded_activations(x)
    return F.linear(inputs, unpack(weight)).to(x.dtype)


def rounded_activations(x: Tensor) -> Tensor:
    """Inputs [... i] in 8 bits, as float32: each 32 of a row are whole numbers, -127 … 127, times max|x| / 127.

    As llama.cpp's Q8_0, with float32 scales; ties are rounded to the even number. A row's last block may be shorter.
    """
    i = x.shape[-1]
    blocks = F.pad(x.float(), (0, -i % ACTIVATION_BLOCK)).unflatten(-1, (-1, ACTIVATION_BLOCK))
    most = blocks.abs().amax(-1, keepdim=True)
    inverse = torch.full_like(most, 127) / most  # 127 / most would be 127 * (1 / most)
    numbers = (blocks * torch.where(most > SMALLEST_ACTIVATION, inverse, 0)).round()
    return (numbers * (most / 127)).flatten(-2)[..., :i]


SMALLEST_ACTIVATION = 1e-30
"""Blocks without a larger input are rounded to zeros."""
