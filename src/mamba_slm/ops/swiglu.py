"""The gate of a SwiGLU feed-forward: the definition and the fast version. Letters: f inner width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.kernels import loaded_kernel


def swiglu_reference(x: Tensor) -> Tensor:
    """silu(gate) * up in float32, [... 2f] to [... f] in the dtype of x; the first half of a row is the gate.

    Source: Shazeer, arXiv:2002.05202.
    """
    gate, up = x.float().chunk(2, dim=-1)
    return (F.silu(gate) * up).to(x.dtype)


def swiglu(x: Tensor) -> Tensor:
    """`swiglu_reference`; without gradients it overwrites x, which nobody else may read."""
    if (run := loaded_kernel("swiglu", x.device.type, x)) is not None:
        return run(x)
    gate, up = x.chunk(2, dim=-1)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.silu(gate) * up
    return F.silu(gate, inplace=True).mul_(up)
