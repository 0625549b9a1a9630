"""RMSNorm and its gated form. Everything inside is float32, the multiplication by the weight included.

The fast versions have a backward pass of their own that needs about half the passes over memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.kernels import loaded_kernel


def rms_norm_reference(x: Tensor, weight: Tensor, *, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight over the last axis: the definition.

    Args:
        x: [... c]; weight: [c].
        dtype: of the result; None for that of x.

    Source: Zhang and Sennrich, arXiv:1910.07467.
    """
    x32 = x.float()
    scale = torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + eps)
    return (x32 * scale * weight.float()).to(dtype or x.dtype)


def gated_rms_norm_reference(
    x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1, dtype: torch.dtype | None = None
) -> Tensor:
    """RMSNorm(x * silu(gate)): the gate comes before the norm, and the norm is over each group of channels.

    Args:
        x, gate: [... c]; weight: [c]; c is a multiple of num_groups.
        dtype: of the result; None for that of x.

    Returns:
        [... c].

    Source: `RMSNormGated` of mamba_ssm with norm_before_gate=False.
    """
    gated = x.float() * F.silu(gate.float())
    grouped = gated.unflatten(-1, (num_groups, -1))
    scale = torch.rsqrt(grouped.square().mean(dim=-1, keepdim=True) + eps)
    return ((grouped * scale).flatten(-2) * weight.float()).to(dtype or x.dtype)


def rms_norm(x: Tensor, weight: Tensor, *, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """`rms_norm_reference` with fewer passes over memory. Under torch.compile the definition, which it fuses."""
    dtype = dtype or x.dtype
    if (run := loaded_kernel("rms_norm", x.device.type, x, weight, eps=eps, dtype=dtype)) is not None:
        return run(x, weight, eps=eps, dtype=dtype)
    if torch.compiler.is_compiling():
        return rms_norm_reference(x, weight, eps=eps, dtype=dtype)
    if not torch.is_grad_enabled():
        return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        return RMSNormFunction.apply(x.float(), weight.float(), eps, 1).to(dtype)  # type: ignore[no-any-return]


def gated_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1, dtype: torch.dtype | None = None
) -> Tensor:
    """`gated_rms_norm_reference` with fewer passes over memory. Under torch.compile the definition, which it fuses."""
    dtype = dtype or x.dtype
    settings: dict[str, Any] = {"eps": eps, "num_groups": num_groups, "dtype": dtype}
    if (run := loaded_kernel("gated_rms_norm", x.device.type, x, gate, weight, **settings)) is not None:
        return run(x, gate, weight, **settings)
    if torch.compiler.is_compiling():
        return gated_rms_norm_reference(x, gate, weight, **settings)
    if not torch.is_grad_enabled() and num_groups == 1:
        gated = F.silu(gate.float()).mul_(x)
        return F.rms_norm(gated, weight.shape, weight.float(), eps).to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        gated = x.float() * F.silu(gate.float())
        return RMSNormFunction.apply(gated, weight.float(), eps, num_groups).to(dtype)  # type: ignore[no-any-return]


class RMSNormFunction(torch.autograd.Function):
    """With s = 1 / sqrt(mean(x²) + eps) of each group and n = x s: y = n w, and

    grad_x = s (grad_y w - n mean(grad_y w n)),  grad_w = Σ grad_y n.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, num_groups: int) -> Tensor:  # type: ignore[override]
        grouped = x.unflatten(-1, (num_groups, -1))
        size = grouped.shape[-1]
        scale = torch.linalg.vector_norm(grouped, dim=-1, keepdim=True).square_().div_(size).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (grouped * scale).mul_(weight.unflatten(-1, (num_groups, -1))).flatten(-2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        x, weight, scale = ctx.saved_tensors
        groups = scale.shape[-2]
        grouped_weight = weight.unflatten(-1, (groups, -1))
        normed = x.unflatten(-1, (groups, -1)) * scale
        grad = grad.unflatten(-1, (groups, -1))
        product = grad * normed
        grad_weight = product.flatten(0, -3).sum(dim=0).flatten()
        mean = product.mul_(grouped_weight).mean(dim=-1, keepdim=True)
        grad_x = (grad * grouped_weight).addcmul_(normed, mean, value=-1).mul_(scale)
        return grad_x.flatten(-2), grad_weight, None, None
