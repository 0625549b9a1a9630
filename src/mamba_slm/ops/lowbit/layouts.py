"""Quantized matrices in the bytes of ONNX Runtime's MatMulNBits and of bitsandbytes, both ways.

Letters: o outputs, i inputs, k blocks of a row, q inputs of a block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, blocks_of_codes
from mamba_slm.ops.lowbit.nested import NestedScales
from mamba_slm.ops.lowbit.scheme import NESTED_BLOCK, Scheme
from mamba_slm.ops.lowbit.tables import dynamic_table, table_of


def to_nibbles(codes: Tensor, *, first_is_high: bool = False) -> Tensor:
    """Codes [... n] of 4 bits to bytes [... ceil(n/2)]; the last is filled up with zero.

    >>> to_nibbles(torch.tensor([1, 2, 3], dtype=torch.uint8)).tolist()
    [33, 3]
    """
    first, second = F.pad(codes, (0, codes.shape[-1] % 2)).unflatten(-1, (-1, 2)).unbind(-1)
    return first << 4 | second if first_is_high else first | second << 4


def from_nibbles(stored: Tensor, count: int, *, first_is_high: bool = False) -> Tensor:
    """Bytes [... ceil(n/2)] to codes [... n] uint8."""
    low, high = stored & 15, stored >> 4
    return torch.stack([high, low] if first_is_high else [low, high], dim=-1).flatten(-2)[..., :count]


@dataclass(frozen=True, kw_only=True)
class MatMulNBits:
    """The inputs of a MatMulNBits (onnxruntime/docs/ContribOperators.md) that hold a matrix [o i]."""

    bits: int
    block_size: int

    values: Tensor
    """[o k q·bits/8] uint8; of two codes in a byte the first has the lower bits."""

    scales: Tensor
    """[o k] float16 or float32."""

    zero_points: Tensor | None
    """[o ceil(k·bits/8)] uint8, packed as the values; None: 2^(bits - 1) everywhere."""


def to_matmul_nbits(blocks: QuantizedBlocks) -> MatMulNBits:
    """Whole numbers in the layout of ONNX Runtime; scales as they are, also where they are stored in 8 bits.

    Raises:
        ConfigError: the numbers are those of a table.
    """
    if blocks.scheme.is_table:
        raise ConfigError(f"MatMulNBits holds whole numbers, not {blocks.scheme.format}")
    k = blocks.scales.shape[1]
    values = blocks.codes.unflatten(1, (k, -1))
    zeros = blocks.zero_points
    if blocks.scheme.bits == 4:
        values, zeros = to_nibbles(values), None if zeros is None else to_nibbles(zeros)
    return MatMulNBits(
        bits=blocks.scheme.bits,
        block_size=blocks.block_size,
        values=values.contiguous(),
        scales=blocks.scales,
        zero_points=zeros,
    )


def from_matmul_nbits(stored: MatMulNBits, scheme: Scheme, *, nested: NestedScales | None = None) -> QuantizedBlocks:
    """The inverse of `to_matmul_nbits`, for a scheme with the block size of the matrix."""
    values, zeros, k = stored.values, stored.zero_points, stored.scales.shape[1]
    if stored.bits == 4:
        values = from_nibbles(values, 2 * values.shape[-1])
        zeros = None if zeros is None else from_nibbles(zeros, k)
    return blocks_of_codes(values.flatten(1).contiguous(), stored.scales, zeros, scheme, nested=nested)


def to_bitsandbytes(blocks: QuantizedBlocks) -> dict[str, Tensor]:
    """The tensors that `bitsandbytes.nn.Linear4bit` writes for a weight, by the end of their name.

    "" is the packed weight [o·i/2 1] uint8, the high half of a byte first; "absmax" are the scales, flat, float32 or
    with `double` uint8; "quant_map" and "nested_quant_map" the tables; "nested_absmax" the scales of the scales; and
    "quant_state.bitsandbytes__FORMAT" JSON in bytes.

    Raises:
        ConfigError: the numbers are whole numbers.
    """
    scheme, nested = blocks.scheme, blocks.nested
    if not scheme.is_table:
        raise ConfigError(f"bitsandbytes' 4-bit weights are nf4 or fp4, not {scheme.format}")
    state: dict[str, Any] = {
        "quant_type": scheme.format,
        "blocksize": blocks.block_size,
        "dtype": "float32",
        "shape": list(blocks.shape),
    }
    tensors = {
        "": to_nibbles(blocks.codes.flatten(), first_is_high=True)[:, None],
        "absmax": (blocks.scales.float() if nested is None else nested.codes).flatten(),
        "quant_map": table_of(scheme.format).clone(),
    }
    if nested is not None:
        offset = float(nested.offset)
        state |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": offset}
        tensors |= {"nested_absmax": nested.absmax, "nested_quant_map": dynamic_table().clone()}
    packed = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    return tensors | {f"quant_state.bitsandbytes__{scheme.format}": packed}


def from_bitsandbytes(tensors: Mapping[str, Tensor], scheme: Scheme) -> QuantizedBlocks:
    """The inverse of `to_bitsandbytes`, for a scheme with the block size of the matrix.

    Raises:
        CheckpointError: something is missing, or of another format, block size or table.
    """
    key = f"quant_state.bitsandbytes__{scheme.format}"
    try:
        state = json.loads(bytes(tensors[key].tolist()))
        o, i = state["shape"]
        codes = from_nibbles(tensors[""].flatten(), o * i, first_is_high=True).view(o, i)
        absmax = tensors["absmax"].view(o, scheme.num_blocks(i))
        expected = (scheme.format, scheme.block_size or i)
        found = (state["quant_type"], state["blocksize"])
        nested = None
        if scheme.double:
            offset = torch.tensor(state["nested_offset"], dtype=torch.float32)
            nested = NestedScales(codes=absmax, absmax=tensors["nested_absmax"], offset=offset)
            absmax = nested.values()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"not a weight of bitsandbytes in {scheme}: {error!r}") from error
    tables = {"quant_map": table_of(scheme.format)} | ({"nested_quant_map": dynamic_table()} if scheme.double else {})
    if found != expected or any(not torch.equal(tensors[name], table) for name, table in tables.items()):
        raise CheckpointError(f"a weight of bitsandbytes in {found}, with other tables or not in {expected}")
    return blocks_of_codes(codes.contiguous(), absmax, None, scheme, nested=nested)
