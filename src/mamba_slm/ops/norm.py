"""RMSNorm and its gated form. Everything inside is float32, the multiplication by the weight included."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight over the last axis, in the dtype of x.

    Source: Zhang and Sennrich, arXiv:1910.07467.
    """
    x32 = x.float()
    scale = torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + eps)
    return (x32 * scale * weight.float()).to(x.dtype)


def gated_rms_norm(x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1) -> Tensor:
    """RMSNorm(x * silu(gate)): the gate comes before the norm, and the norm is over each group of channels.

    Args:
        x, gate: [... c]; weight: [c]; c is a multiple of num_groups.

    Source: `RMSNormGated` of mamba_ssm with norm_before_gate=False.
    """
    gated = x.float() * F.silu(gate.float())
    grouped = gated.unflatten(-1, (num_groups, -1))
    scale = torch.rsqrt(grouped.square().mean(dim=-1, keepdim=True) + eps)
    return ((grouped * scale).flatten(-2) * weight.float()).to(x.dtype)
