"""`swiglu` in one pass over memory each way."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.native.arguments import POINTER, SIZE, SUFFIX, declare, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import NativeKernels, difference
from mamba_slm.ops.swiglu import swiglu_reference

LANES = 16


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("swiglu")
    for suffix in SUFFIX.values():
        declare(found, f"swiglu_forward_{suffix}", POINTER, POINTER, SIZE, SIZE)
        declare(found, f"swiglu_backward_{suffix}", POINTER, POINTER, POINTER, SIZE, SIZE)
    return found


def swiglu(x: Tensor) -> Tensor:
    """See `mamba_slm.ops.swiglu.swiglu_reference`."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return forward(x.contiguous())
    return SwiGLUFunction.apply(x)  # type: ignore[no-any-return]


def forward(x: Tensor) -> Tensor:
    """[... 2f] contiguous to [... f]."""
    f = x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], f)
    getattr(functions(), f"swiglu_forward_{SUFFIX[x.dtype]}")(x.data_ptr(), y.data_ptr(), y.numel() // f, f)
    return y


class SwiGLUFunction(torch.autograd.Function):
    """Saves its input only."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        x = x.contiguous()
        ctx.save_for_backward(x)
        return forward(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        grad, grad_x, f = grad.contiguous(), torch.empty_like(x), x.shape[-1] // 2
        run = getattr(functions(), f"swiglu_backward_{SUFFIX[x.dtype]}")
        run(x.data_ptr(), grad.data_ptr(), grad_x.data_ptr(), grad.numel() // f, f)
        return grad_x


def refuses(x: Tensor) -> str | None:
    """Why the kernel cannot take x, or None."""
    if x.shape[-1] % (2 * LANES) or not x.numel():
        return f"{x.shape[-1]} is no multiple of {2 * LANES}"
    return refused_tensor("x", x)


def self_test() -> str | None:
    """See `NativeKernels`."""
    return difference(swiglu_reference, swiglu, torch.randn(64, 96))


KERNELS = NativeKernels(
    operations={"swiglu": Kernel(name="native", run=swiglu, refuses=refuses)},
    unsupported=lambda: None,
    self_test=self_test,
)
