"""Products of a few rows at the speed of memory, with matrices in float32, bfloat16, 8 and 4 bits.

Letters: i inputs, o outputs.
"""

from __future__ import annotations

import ctypes
import functools
from typing import get_args

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.linear import of_few_sizes
from mamba_slm.ops.lowbit.packed import PANEL_ROWS, Bits, PackedWeight, linear_reference, pack_codes
from mamba_slm.ops.native.arguments import POINTER, SIZE, SUFFIX, declare, pointer, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import SELF_TEST_TOLERANCE, NativeKernels

FEW_ROWS = 32
"""More rows are worth writing the matrix out for a library's product."""

SLICE_BYTES = 8 * 2**20
"""Of a matrix that is written out: memory of this size is given back and taken again without new pages."""

KINDS = {torch.float32: 32, torch.bfloat16: 16}
"""How C calls a plain matrix; a packed one is called by its bits."""


class Matrix(ctypes.Structure):
    """`Matrix` of row_product.h. It points to tensors, which whoever makes it keeps alive."""

    _fields_ = (
        ("kind", SIZE),
        ("outputs", SIZE),
        ("inputs", SIZE),
        ("values", POINTER),
        ("scales", POINTER),
        ("zeros", POINTER),
        ("table", POINTER),
        ("block", SIZE),
        ("half", SIZE),
        ("rounds", SIZE),
    )


def matrix_of(weight: Tensor | PackedWeight) -> Matrix:
    """A matrix [o i], contiguous where it is plain, as C sees it."""
    if isinstance(weight, PackedWeight):
        scales = weight.scales
        return Matrix(
            kind=weight.bits,
            outputs=weight.num_outputs,
            inputs=weight.num_inputs,
            values=weight.words.data_ptr(),
            scales=scales.data_ptr(),
            zeros=pointer(weight.zero_points),
            table=pointer(weight.table),
            block=weight.block_size,
            half=scales.dtype == torch.float16,
            rounds=weight.activations == "int8",
        )
    o, i = weight.shape
    return Matrix(kind=KINDS[weight.dtype], outputs=o, inputs=i, values=weight.data_ptr())


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("row_product")
    for suffix in SUFFIX.values():
        declare(found, f"row_product_{suffix}", POINTER, POINTER, SIZE, POINTER)
        declare(found, f"unpack_columns_{suffix}", POINTER, SIZE, SIZE, POINTER)
    return found


def row_product(x: Tensor, weight: Tensor | PackedWeight) -> Tensor:
    """x [... i] times a matrix [o i] transposed, in float32 inside: [... o] in the dtype of x, float32 or bfloat16."""
    matrix, rows = matrix_of(weight), x.contiguous()
    y = rows.new_empty(*x.shape[:-1], matrix.outputs)
    run = getattr(functions(), f"row_product_{SUFFIX[x.dtype]}")
    run(ctypes.addressof(matrix), rows.data_ptr(), rows.numel() // matrix.inputs, y.data_ptr())
    return y


def unpack_columns(weight: PackedWeight, dtype: torch.dtype, *, begin: int = 0, end: int | None = None) -> Tensor:
    """Outputs `begin` to `end` of the matrix transposed, [i o], in float32 or bfloat16; both are panels' borders."""
    end = weight.num_outputs if end is None else min(end, weight.num_outputs)
    out = torch.empty(weight.num_inputs, end - begin, dtype=dtype)
    matrix, run = matrix_of(weight), getattr(functions(), f"unpack_columns_{SUFFIX[dtype]}")
    run(ctypes.addressof(matrix), begin // PANEL_ROWS, -(-end // PANEL_ROWS), out.data_ptr())
    return out


def packed_linear(x: Tensor, weight: PackedWeight) -> Tensor:
    """See `mamba_slm.ops.lowbit.linear`. Many rows are multiplied in the dtype of x by the matrix rounded to it."""
    if x.numel() <= FEW_ROWS * weight.num_inputs or weight.activations == "int8":
        return row_product(x, weight)
    rows = x.reshape(-1, weight.num_inputs)
    if x.dtype == torch.bfloat16:
        return of_few_sizes(rows, lambda more: product_in_slices(more, weight)).view(*x.shape[:-1], -1)
    return product_in_slices(rows, weight).view(*x.shape[:-1], -1)


def product_in_slices(x: Tensor, weight: PackedWeight) -> Tensor:
    """x [r i] to [r o] by a library's product with so much of the matrix at a time as stays in a cache."""
    width = max(256, SLICE_BYTES // (weight.num_inputs * x.element_size()) // PANEL_ROWS * PANEL_ROWS)
    if width >= weight.num_outputs:
        return x @ unpack_columns(weight, x.dtype)
    y = x.new_empty(len(x), weight.num_outputs)
    for begin in range(0, weight.num_outputs, width):
        columns = unpack_columns(weight, x.dtype, begin=begin, end=begin + width)
        torch.mm(x, columns, out=y[:, begin : begin + width])
    return y


def refuses(x: Tensor, weight: PackedWeight) -> str | None:
    """Why the kernel cannot take these, or None."""
    if torch.is_grad_enabled() and x.requires_grad:
        return "it has no gradients"
    if not x.numel():
        return "there is nothing to multiply"
    return refused_tensor("x", x) or refused_tensor("words", weight.words, torch.int32)


def self_test() -> str | None:
    """See `NativeKernels`."""
    for name, weight in weights_to_test().items():
        for rows in (1, 7, 33):
            x = torch.randn(rows, weight.num_inputs)
            expected = linear_reference(x, weight)
            error = float((packed_linear(x, weight) - expected).abs().max() / expected.abs().max())
            if not error <= SELF_TEST_TOLERANCE:
                return f"{rows} rows times {name} are off by {error:.0e}"
    return None


def weights_to_test() -> dict[str, PackedWeight]:
    """A random matrix [40 128] in blocks of 32 in every form."""
    found = {}
    for bits in get_args(Bits):
        codes, scales = torch.randint(0, 1 << bits, (40, 128), dtype=torch.uint8), torch.rand(40, 4) + 0.5
        zero_points = torch.randint(0, 1 << bits, (40, 4), dtype=torch.uint8)
        found[f"{bits} bits"] = pack_codes(codes, scales, bits=bits)
        found[f"{bits} bits with zero points"] = pack_codes(codes, scales.half(), bits=bits, zero_points=zero_points)
        found[f"{bits} bits with rounded inputs"] = pack_codes(codes, scales, bits=bits, activations="int8")
    codes, table = torch.randint(0, 16, (40, 128), dtype=torch.uint8), torch.linspace(-1, 1, 16) ** 3
    found["a table of 16 values"] = pack_codes(codes, torch.rand(40, 4) + 0.5, bits=4, table=table)
    return found


KERNELS = NativeKernels(
    operations={"packed_linear": Kernel(name="native", run=packed_linear, refuses=refuses)},
    unsupported=lambda: None,
    self_test=self_test,
)
