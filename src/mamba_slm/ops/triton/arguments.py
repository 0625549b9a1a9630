"""What every GPU kernel asks of its tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refused_tensor(name: str, tensor: Tensor, *dtypes: torch.dtype) -> str | None:
    """Why a kernel cannot read this tensor: no plain tensor, none of the dtypes (default: KERNEL_DTYPES), or empty."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return f"{name} is a {type(tensor).__name__}, {tensor.layout}"
    if tensor.dtype not in (dtypes or KERNEL_DTYPES):
        return f"{name} is {tensor.dtype}"
    if not tensor.numel():
        return f"{name} is empty"
    return None


def first_reason(*reasons: str | None) -> str | None:
    """The first that is one."""
    return next((reason for reason in reasons if reason is not None), None)
