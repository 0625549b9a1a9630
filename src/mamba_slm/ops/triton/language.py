"""What all kernels of this folder share: Triton itself, a matrix product, and the device of a launch.

With TRITON_INTERPRET=1 set before Triton is loaded the kernels run on CPU tensors, in Triton's interpreter.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.errors import MissingDependencyError

try:
    import triton
    import triton.language as tl
    from triton import knobs
except ImportError as error:
    raise MissingDependencyError(
        f"kernels for GPUs need triton, which could not be imported: {error}", hint="pip install 'mamba-slm[gpu]'"
    ) from error

jit: Any = triton.jit
"""Without its type, which knows neither constants nor launch settings."""
INTERPRETED = bool(knobs.runtime.interpret)
"""Whether kernels run in the interpreter. It multiplies the bits of bfloat16 as if they were integers, and rounds to
bfloat16 by cutting off, where GPUs round to the nearest; `dot` and `narrow` make up for both."""
IN_INTERPRETER = tl.constexpr(INTERPRETED)


@jit
def dot(left, right):
    """left @ right with float32 sums; float32 factors go through tensor cores as sums of three, which keeps 22 bits.

    (Exact float32 products have no tensor cores, and spill: 12 KB per thread in the scan's backward pass.)
    """
    if IN_INTERPRETER:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, input_precision="tf32x3")


@jit
def narrow(values, dtype):
    """float32 to `dtype`, to the nearest value."""
    if IN_INTERPRETER and dtype == tl.bfloat16:
        bits = values.to(tl.int32, bitcast=True)
        values = (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)
    return values.to(dtype)


@jit
def sigmoid(x):
    """1 / (1 + exp(-x)) without an overflow."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1 / (1 + small), small / (1 + small))


def block(size: int, *, least: int = 16, most: int = 1 << 16) -> int:
    """The power of two that a tile over `size` elements has; matrix products want at least 16."""
    return min(max(least, triton.next_power_of_2(size)), most)


def on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager:
    """Launches inside go to the GPU that holds the tensor."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def last_contiguous(tensor: Tensor) -> Tensor:
    """The tensor, or a copy whose last axis is dense; other strides are handed to the kernels."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()
