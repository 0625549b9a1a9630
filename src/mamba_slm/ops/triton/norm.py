"""RMSNorm and its gated form, each in one pass over memory in both directions. Letters: r rows, c channels."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.norm import gated_rms_norm_reference, rms_norm_reference
from mamba_slm.ops.triton.arguments import first_reason, refused_tensor
from mamba_slm.ops.triton.language import block, jit, last_contiguous, narrow, on_device_of, sigmoid, tl, triton
from mamba_slm.ops.triton.start import TritonKernels, difference

LARGEST_GROUP = 16384
"""Channels that one program holds in registers."""
BACKWARD_PROGRAMS = 1056
"""Programs of the backward pass, eight for each of 132 multiprocessors; each sums the weight's gradient of its rows."""


@jit
def norm_forward(x, gate, weight, y, eps, size, x_r, gate_r, channels, HAS_GATE: tl.constexpr, C: tl.constexpr):
    """Grid (rows, groups): y [r c] = v / sqrt(mean(v²) + eps) * weight over a group, v = x or x * silu(gate)."""
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.arange(0, C)
    at = group * size + i
    v = tl.load(x + row * x_r + at, mask=i < size, other=0.0).to(tl.float32)
    if HAS_GATE:
        z = tl.load(gate + row * gate_r + at, mask=i < size, other=0.0).to(tl.float32)
        v *= z * sigmoid(z)
    scale = tl.rsqrt(tl.sum(v * v) / size + eps)
    w = tl.load(weight + at, mask=i < size, other=0.0).to(tl.float32)
    tl.store(y + row * channels + at, narrow(v * scale * w, y.dtype.element_ty), mask=i < size)


@jit
def norm_backward(
    x, gate, weight, grad, grad_x, grad_gate, grad_weight, eps, rows, rows_each, size, x_r, gate_r, channels,
    HAS_GATE: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Grid (programs, groups): gradients of `rows_each` rows, and their part of the weight's, [programs c]."""
    program, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.arange(0, C)
    at = group * size + i
    w = tl.load(weight + at, mask=i < size, other=0.0).to(tl.float32)
    of_weight = tl.zeros((C,), dtype=tl.float32)
    for number in range(rows_each):
        row = program * rows_each + number
        inside = (i < size) & (row < rows)
        v = tl.load(x + row * x_r + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(grad + row * channels + at, mask=inside, other=0.0).to(tl.float32)
        raw, z, open_ = v, v, v
        if HAS_GATE:
            z = tl.load(gate + row * gate_r + at, mask=inside, other=0.0).to(tl.float32)
            open_ = sigmoid(z)
            v = raw * z * open_
        scale = tl.rsqrt(tl.sum(v * v) / size + eps)
        normed = v * scale
        of_weight += g * normed
        weighted = g * w
        of_v = scale * (weighted - normed * (tl.sum(weighted * normed) / size))
        if HAS_GATE:
            of_gate = of_v * raw * open_ * (1 + z * (1 - open_))
            tl.store(grad_gate + row * channels + at, narrow(of_gate, grad_gate.dtype.element_ty), mask=inside)
            of_v *= z * open_
        tl.store(grad_x + row * channels + at, narrow(of_v, grad_x.dtype.element_ty), mask=inside)
    tl.store(grad_weight + program * channels + at, of_weight, mask=i < size)


def rms_norm(x: Tensor, weight: Tensor, *, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """See `mamba_slm.ops.norm.rms_norm_reference`."""
    return NormFunction.apply(x, None, weight, eps, 1, dtype or x.dtype)  # type: ignore[no-any-return]


def gated_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1, dtype: torch.dtype | None = None
) -> Tensor:
    """See `mamba_slm.ops.norm.gated_rms_norm_reference`."""
    return NormFunction.apply(x, gate, weight, eps, num_groups, dtype or x.dtype)  # type: ignore[no-any-return]


class NormFunction(torch.autograd.Function):
    """Saves its inputs only."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, gate: Tensor | None, weight: Tensor, eps: float, num_groups: int, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(x, gate, weight)
        ctx.eps, ctx.num_groups = eps, num_groups
        rows, gates = as_rows(x), None if gate is None else as_rows(gate)
        y = x.new_empty(x.shape, dtype=dtype)
        grid, settings = settings_of(rows, gates, num_groups)
        with on_device_of(x):
            norm_forward[(len(rows), num_groups)](
                *(rows, x if gates is None else gates, weight, y, eps), *grid, **settings
            )
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, gate, weight = ctx.saved_tensors
        rows, gates, grad = as_rows(x), None if gate is None else as_rows(gate), grad.contiguous()
        grad_x, grad_gate = x.new_empty(x.shape), None if gate is None else gate.new_empty(gate.shape)
        each = triton.cdiv(len(rows), BACKWARD_PROGRAMS)
        programs = triton.cdiv(len(rows), each)
        parts = x.new_empty(programs, x.shape[-1], dtype=torch.float32)
        grid, settings = settings_of(rows, gates, ctx.num_groups)
        with on_device_of(x):
            norm_backward[(programs, ctx.num_groups)](
                *(rows, x if gates is None else gates, weight, grad, grad_x),
                *(grad_x if grad_gate is None else grad_gate, parts, ctx.eps, len(rows), each),
                *grid,
                **settings,
            )
        return grad_x, grad_gate, parts.sum(dim=0).to(weight.dtype), None, None, None, None


def as_rows(x: Tensor) -> Tensor:
    """[... c] to [r c] with dense channels, as a view where the strides allow it."""
    return last_contiguous(x).reshape(-1, x.shape[-1])


def settings_of(rows: Tensor, gates: Tensor | None, num_groups: int) -> tuple[tuple[int, ...], dict[str, int | bool]]:
    """Sizes and strides, and what the kernel is compiled for."""
    channels = rows.shape[1]
    C = block(channels // num_groups)
    strides = rows.stride(0), 0 if gates is None else gates.stride(0)
    warps = 4 if C <= 1024 else 8 if C <= 4096 else 16
    return (channels // num_groups, *strides, channels), {"HAS_GATE": gates is not None, "C": C, "num_warps": warps}


def refuses_norm(x: Tensor, weight: Tensor, *, eps: float, dtype: torch.dtype | None = None) -> str | None:
    """Why the kernel cannot take these, or None."""
    return refused(x, None, weight, 1)


def refuses_gated(
    x: Tensor, gate: Tensor, weight: Tensor, *, eps: float, num_groups: int = 1, dtype: torch.dtype | None = None
) -> str | None:
    """Why the kernel cannot take these, or None."""
    return refused(x, gate, weight, num_groups)


def refused(x: Tensor, gate: Tensor | None, weight: Tensor, num_groups: int) -> str | None:
    """Why a kernel of this file cannot take these, or None."""
    if x.shape[-1] // num_groups > LARGEST_GROUP:
        return f"a group of {x.shape[-1] // num_groups} channels is larger than {LARGEST_GROUP}"
    gate_reason = None if gate is None else refused_tensor("gate", gate)
    return first_reason(refused_tensor("x", x), gate_reason, refused_tensor("weight", weight))


def self_test(device: torch.device) -> str | None:
    """See `TritonKernels`."""
    x, gate, weight = (torch.randn(*shape, device=device) for shape in ((64, 96), (64, 96), (96,)))
    return first_reason(
        difference(functools.partial(rms_norm_reference, eps=1e-5), functools.partial(rms_norm, eps=1e-5), x, weight),
        difference(
            functools.partial(gated_rms_norm_reference, eps=1e-5, num_groups=2),
            functools.partial(gated_rms_norm, eps=1e-5, num_groups=2),
            *(x, gate, weight),
        ),
    )


KERNELS = TritonKernels(
    operations={
        "rms_norm": Kernel(name="triton", run=rms_norm, refuses=refuses_norm),
        "gated_rms_norm": Kernel(name="triton", run=gated_rms_norm, refuses=refuses_gated),
    },
    self_test=self_test,
)
