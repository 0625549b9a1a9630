"""`rms_norm` and `gated_rms_norm` in one pass over memory forward and one backward."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.native.arguments import FLOAT, POINTER, SIZE, SUFFIX, declare, pointer, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import NativeKernels, difference
from mamba_slm.ops.norm import gated_rms_norm_reference, rms_norm_reference

LANES = 16
PLAIN = ("f32_f32", "f32_bf16", "bf16_bf16")
"""dtypes of x and y for which there are functions."""
GATED = ("f32_f32_f32", "f32_bf16_bf16", "bf16_bf16_bf16")
"""dtypes of x, gate and y."""


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("norm")
    for name in PLAIN:
        declare(found, f"norm_forward_{name}", POINTER, SIZE, POINTER, POINTER, POINTER, SIZE, SIZE, FLOAT)
        declare(found, f"norm_backward_{name}", POINTER, SIZE, *[POINTER] * 5, SIZE, SIZE, SIZE)
    for name in GATED:
        declare(found, f"gated_forward_{name}", POINTER, POINTER, SIZE, *[POINTER] * 3, SIZE, SIZE, SIZE, FLOAT)
        declare(found, f"gated_backward_{name}", POINTER, POINTER, SIZE, *[POINTER] * 6, SIZE, SIZE, SIZE, SIZE)
    return found


def names_of(*dtypes: torch.dtype) -> str:
    """How the functions for these dtypes are called."""
    return "_".join(SUFFIX.get(dtype, "?") for dtype in dtypes)


def rows_of(x: Tensor) -> Tensor:
    """[... c] as [m c] with adjacent channels; a copy only where the strides allow no view."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def rms_norm(x: Tensor, weight: Tensor, *, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """See `mamba_slm.ops.norm.rms_norm_reference`."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return NativeRMSNorm.apply(x, weight, eps, dtype or x.dtype)  # type: ignore[no-any-return]
    return norm_forward(rows_of(x), weight, eps, dtype or x.dtype, None).view(x.shape)


def norm_forward(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype, scales: Tensor | None) -> Tensor:
    """[m c] to [m c] in `dtype`; the factors of the rows go to `scales` [m]."""
    m, c = x.shape
    y = torch.empty(m, c, dtype=dtype)
    run = getattr(functions(), f"norm_forward_{names_of(x.dtype, dtype)}")
    run(x.data_ptr(), x.stride(0), weight.data_ptr(), y.data_ptr(), pointer(scales), m, c, eps)
    return y


class NativeRMSNorm(torch.autograd.Function):
    """Saves x, and one factor per row."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        rows = rows_of(x)
        scales = torch.empty(len(rows))
        y = norm_forward(rows, weight, eps, dtype, scales)
        ctx.save_for_backward(x, weight, scales)
        return y.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        x, weight, scales = ctx.saved_tensors
        rows, grad, parts = rows_of(x), grad.contiguous(), torch.get_num_threads()
        m, c = rows.shape
        grad_x, grad_weight = torch.empty(m, c, dtype=x.dtype), torch.zeros(parts, c)
        getattr(functions(), f"norm_backward_{names_of(x.dtype, grad.dtype)}")(
            rows.data_ptr(), rows.stride(0), weight.data_ptr(), scales.data_ptr(), grad.data_ptr(), grad_x.data_ptr(),
            grad_weight.data_ptr(), m, c, parts,
        )  # fmt: skip
        return grad_x.view(x.shape), grad_weight.sum(dim=0), None, None


def refuses_norm(x: Tensor, weight: Tensor, *, eps: float, dtype: torch.dtype | None = None) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if (name := names_of(x.dtype, dtype or x.dtype)) not in PLAIN:
        return f"there is no function for {name}"
    return refused_sizes(x, 1) or refused_tensor("x", x) or refused_weight(weight)


def gated_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1, dtype: torch.dtype | None = None
) -> Tensor:
    """See `mamba_slm.ops.norm.gated_rms_norm_reference`."""
    dtype = dtype or x.dtype
    if torch.is_grad_enabled() and (x.requires_grad or gate.requires_grad or weight.requires_grad):
        return NativeGatedRMSNorm.apply(x, gate, weight, eps, num_groups, dtype)  # type: ignore[no-any-return]
    return gated_forward(rows_of(x).contiguous(), rows_of(gate), weight, eps, num_groups, dtype, None).view(x.shape)


def gated_forward(
    x: Tensor, gate: Tensor, weight: Tensor, eps: float, num_groups: int, dtype: torch.dtype, scales: Tensor | None
) -> Tensor:
    """[m c] contiguous and [m c] to [m c] in `dtype`; the factors of rows and groups go to `scales` [m g]."""
    m, c = x.shape
    y = torch.empty(m, c, dtype=dtype)
    getattr(functions(), f"gated_forward_{names_of(x.dtype, gate.dtype, dtype)}")(
        x.data_ptr(), gate.data_ptr(), gate.stride(0), weight.data_ptr(), y.data_ptr(), pointer(scales), m, c,
        num_groups, eps,
    )  # fmt: skip
    return y


class NativeGatedRMSNorm(torch.autograd.Function):
    """Saves x, the gate as it lies in memory, and one factor per row and group."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, gate: Tensor, weight: Tensor, eps: float, num_groups: int, dtype: torch.dtype
    ) -> Tensor:
        rows = rows_of(x).contiguous()
        scales = torch.empty(len(rows), num_groups)
        y = gated_forward(rows, rows_of(gate), weight, eps, num_groups, dtype, scales)
        ctx.save_for_backward(rows, gate, weight, scales)
        return y.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # type: ignore[override]
        x, gate, weight, scales = ctx.saved_tensors
        gates, grad, parts = rows_of(gate), grad.contiguous(), torch.get_num_threads()
        m, c = x.shape
        grad_x, grad_gate, grad_weight = torch.empty_like(x), gate.new_empty(m, c), torch.zeros(parts, c)
        getattr(functions(), f"gated_backward_{names_of(x.dtype, gate.dtype, grad.dtype)}")(
            x.data_ptr(), gates.data_ptr(), gates.stride(0), weight.data_ptr(), scales.data_ptr(), grad.data_ptr(),
            grad_x.data_ptr(), grad_gate.data_ptr(), grad_weight.data_ptr(), m, c, scales.shape[1], parts,
        )  # fmt: skip
        return grad_x.view(gate.shape), grad_gate.view(gate.shape), grad_weight.sum(dim=0), None, None, None


def refuses_gated(
    x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1, dtype: torch.dtype | None = None
) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if (name := names_of(x.dtype, gate.dtype, dtype or x.dtype)) not in GATED:
        return f"there is no function for {name}"
    if x.shape != gate.shape:
        return f"the gate is {tuple(gate.shape)}, x {tuple(x.shape)}"
    sizes = refused_sizes(x, num_groups)
    return sizes or refused_tensor("x", x) or refused_tensor("gate", gate) or refused_weight(weight)


def refused_sizes(x: Tensor, num_groups: int) -> str | None:
    """Why rows of this size are none for the kernel, or None."""
    if x.shape[-1] % (LANES * num_groups) or not x.numel():
        return f"{x.shape[-1]} is no multiple of {LANES * num_groups}"
    return None


def refused_weight(weight: Tensor) -> str | None:
    """Why the kernel cannot read the weight, or None."""
    return refused_tensor("weight", weight, torch.float32) or (None if weight.is_contiguous() else "weight is a view")


def self_test() -> str | None:
    """See `NativeKernels`."""
    x, gate, weight = torch.randn(64, 96), torch.randn(64, 96), torch.rand(96)
    plain = difference(
        functools.partial(rms_norm_reference, eps=1e-5), functools.partial(rms_norm, eps=1e-5), x, weight
    )
    settings = {"eps": 1e-5, "num_groups": 2}
    return plain or difference(
        functools.partial(gated_rms_norm_reference, **settings),
        functools.partial(gated_rms_norm, **settings),
        x,
        gate,
        weight,
    )


KERNELS = NativeKernels(
    operations={
        "rms_norm": Kernel(name="native", run=rms_norm, refuses=refuses_norm),
        "gated_rms_norm": Kernel(name="native", run=gated_rms_norm, refuses=refuses_gated),
    },
    unsupported=lambda: None,
    self_test=self_test,
)
