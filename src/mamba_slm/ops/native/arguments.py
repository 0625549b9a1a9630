"""What every kernel asks of its tensors, and how it hands them to C."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from mamba_slm.core.native import declare as declare

SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""How the functions for a dtype are called."""

POINTER, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


def pointer(tensor: Tensor | None) -> int | None:
    """Where the tensor lies; None for none."""
    return None if tensor is None else tensor.data_ptr()


def refused_tensor(name: str, tensor: Tensor, *dtypes: torch.dtype) -> str | None:
    """Why a kernel cannot read this tensor: no plain CPU tensor, or another dtype (default: float32, bfloat16)."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"{name} is a {type(tensor).__name__}"
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return f"{name} is on {tensor.device}, {tensor.layout}"
    if tensor.dtype not in (dtypes or SUFFIX):
        return f"{name} is {tensor.dtype}"
    return None
