"""`swiglu` in one pass over memory each way."""

from __future__ import annotations

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.swiglu import swiglu_reference
from mamba_slm.ops.triton.arguments import refused_tensor
from mamba_slm.ops.triton.language import jit, narrow, on_device_of, sigmoid, tl, triton
from mamba_slm.ops.triton.start import TritonKernels, difference

COLUMNS = 1024


@jit
def swiglu_forward(x, y, f, COLUMNS: tl.constexpr):
    """Grid (rows, tiles of f): y = silu(gate) up."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    gate = tl.load(x + row * 2 * f + at, mask=at < f, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * f + f + at, mask=at < f, other=0.0).to(tl.float32)
    tl.store(y + row * f + at, narrow(gate * sigmoid(gate) * up, y.dtype.element_ty), mask=at < f)


@jit
def swiglu_backward(x, grad, grad_x, f, COLUMNS: tl.constexpr):
    """Grid (rows, tiles of f): the gradients of gate and up."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    gate = tl.load(x + row * 2 * f + at, mask=at < f, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * f + f + at, mask=at < f, other=0.0).to(tl.float32)
    g = tl.load(grad + row * f + at, mask=at < f, other=0.0).to(tl.float32)
    open_ = sigmoid(gate)
    of_gate = g * up * open_ * (1 + gate * (1 - open_))
    tl.store(grad_x + row * 2 * f + at, narrow(of_gate, grad_x.dtype.element_ty), mask=at < f)
    tl.store(grad_x + row * 2 * f + f + at, narrow(g * gate * open_, grad_x.dtype.element_ty), mask=at < f)


def swiglu(x: Tensor) -> Tensor:
    """See `mamba_slm.ops.swiglu.swiglu_reference`."""
    return SwiGLUFunction.apply(x)  # type: ignore[no-any-return]


class SwiGLUFunction(torch.autograd.Function):
    """Saves its input only."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        x, f = x.contiguous(), x.shape[-1] // 2
        ctx.save_for_backward(x)
        y = x.new_empty(*x.shape[:-1], f)
        with on_device_of(x):
            swiglu_forward[(y.numel() // f, triton.cdiv(f, COLUMNS))](x, y, f, COLUMNS=COLUMNS)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        grad, grad_x, f = grad.contiguous(), torch.empty_like(x), x.shape[-1] // 2
        with on_device_of(x):
            swiglu_backward[(grad.numel() // f, triton.cdiv(f, COLUMNS))](x, grad, grad_x, f, COLUMNS=COLUMNS)
        return grad_x


def refuses(x: Tensor) -> str | None:
    """Why the kernel cannot take x, or None."""
    return refused_tensor("x", x)


def self_test(device: torch.device) -> str | None:
    """See `TritonKernels`."""
    return difference(swiglu_reference, swiglu, torch.randn(64, 96, device=device))


KERNELS = TritonKernels(
    operations={"swiglu": Kernel(name="triton", run=swiglu, refuses=refuses)},
    self_test=self_test,
)
