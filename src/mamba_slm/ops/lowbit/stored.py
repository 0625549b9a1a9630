"""What of a quantized matrix lies in a safetensors file: codes as small as they are, in bytes that others read, too.

    NAME.weight                 whole numbers: [o k q·bits/8] uint8 of MatMulNBits
    NAME.weight.scales          [o k] float16 or float32, or uint8 with `double`
    NAME.weight.zero_points     [o ceil(k·bits/8)] uint8, where asymmetric
    NAME.weight.scales.absmax   [ceil(o·k/256)] float32, with `double`
    NAME.weight.scales.offset   [1] float32, with `double`

    NAME.weight, NAME.weight.absmax, NAME.weight.quant_map, NAME.weight.quant_state.bitsandbytes__nf4, …
                                nf4 and fp4: what `bitsandbytes.nn.Linear4bit` writes

Letters: o outputs, i inputs, k blocks of a row, q inputs of a block.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, MambaSlmError
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.layouts import (
    MatMulNBits,
    from_bitsandbytes,
    from_matmul_nbits,
    to_bitsandbytes,
    to_matmul_nbits,
)
from mamba_slm.ops.lowbit.nested import NestedScales
from mamba_slm.ops.lowbit.scheme import Scheme


def to_stored(name: str, blocks: QuantizedBlocks) -> dict[str, Tensor]:
    """The tensors of a matrix, by their full names; contiguous, on the CPU."""
    if blocks.scheme.is_table:
        parts = to_bitsandbytes(blocks)
    else:
        layout = to_matmul_nbits(blocks)
        parts = {"": layout.values, "scales": layout.scales}
        if layout.zero_points is not None:
            parts["zero_points"] = layout.zero_points
        if blocks.nested is not None:
            nested = blocks.nested
            parts |= {"scales": nested.codes, "scales.absmax": nested.absmax, "scales.offset": nested.offset.view(1)}
    return {stored_name(name, part): tensor.cpu().contiguous() for part, tensor in parts.items()}


def stored_name(name: str, part: str) -> str:
    """The name of a part of a matrix in the file."""
    return f"{name}.weight.{part}" if part else f"{name}.weight"


def stored_parts(name: str, scheme: Scheme) -> list[str]:
    """The names of all tensors of a matrix."""
    if scheme.is_table:
        nested = ["nested_absmax", "nested_quant_map"] if scheme.double else []
        parts = ["", "absmax", "quant_map", f"quant_state.bitsandbytes__{scheme.format}", *nested]
    else:
        parts = ["", "scales"] + ["zero_points"] * (not scheme.symmetric)
        parts += ["scales.absmax", "scales.offset"] * scheme.double
    return [stored_name(name, part) for part in parts]


def from_stored(name: str, tensors: Mapping[str, Tensor], scheme: Scheme) -> QuantizedBlocks:
    """The inverse of `to_stored`, for a scheme with the block size of the matrix.

    Raises:
        CheckpointError: tensors are missing, or do not fit the scheme or one another.
    """
    prefix = f"{name}.weight"
    try:
        parts = {key[len(prefix) + 1 :]: tensors[key] for key in stored_parts(name, scheme)}
        if scheme.is_table:
            return from_bitsandbytes(parts, scheme)
        scales, nested = parts["scales"], None
        if scheme.double:
            offset = parts["scales.offset"].view(())
            nested = NestedScales(codes=scales, absmax=parts["scales.absmax"], offset=offset)
            scales = nested.values()
        values, zeros = parts[""], parts.get("zero_points")
        require_uint8(values, zeros)
        layout = MatMulNBits(
            bits=scheme.bits, block_size=scheme.block_size, values=values, scales=scales, zero_points=zeros
        )
        return from_matmul_nbits(layout, scheme, nested=nested)
    except (KeyError, RuntimeError, IndexError, MambaSlmError) as error:
        detail = error.message if isinstance(error, MambaSlmError) else f"{error!r}"
        raise CheckpointError(f"the stored matrix {name} does not fit {scheme}: {detail}") from error


def require_uint8(values: Tensor, zero_points: Tensor | None) -> None:
    """Raise CheckpointError unless codes and zero points are bytes."""
    if values.dtype != torch.uint8 or (zero_points is not None and zero_points.dtype != torch.uint8):
        raise CheckpointError(f"codes are bytes, not {values.dtype}")
