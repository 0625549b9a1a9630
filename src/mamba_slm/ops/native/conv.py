"""`causal_conv_silu` in one pass over memory forward and one backward, which makes what goes into silu again."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from mamba_slm.ops.conv import causal_conv_silu_reference
from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.native.arguments import POINTER, SIZE, SUFFIX, declare, pointer, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import NativeKernels, difference

LANES, MOST_TAPS = 16, 8


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("conv")
    for suffix in SUFFIX.values():
        declare(found, f"conv_silu_forward_{suffix}", *[POINTER] * 6, *[SIZE] * 6)
        declare(found, f"conv_silu_backward_{suffix}", *[POINTER] * 7, *[SIZE] * 9)
    return found


def causal_conv_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """See `mamba_slm.ops.conv.causal_conv_silu_reference`."""
    ids = None if document_ids is None else document_ids.to(torch.int64).contiguous()
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        return NativeConvSiLU.apply(x, weight, bias, ids, window)  # type: ignore[no-any-return]
    return conv_forward(x, weight, bias, ids, window)


def with_adjacent_channels(x: Tensor) -> Tensor:
    """x itself, unless its channels lie apart."""
    return x if x.stride(2) == 1 else x.contiguous()


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor, ids: Tensor | None, window: Tensor | None) -> Tensor:
    """[b t c] to [b t c] in float32."""
    x, taps = with_adjacent_channels(x), weight.t().contiguous()
    if window is not None:
        window = window.float().contiguous()
    y = torch.empty(x.shape)
    getattr(functions(), f"conv_silu_forward_{SUFFIX[x.dtype]}")(
        x.data_ptr(), pointer(window), pointer(ids), taps.data_ptr(), bias.data_ptr(), y.data_ptr(), *x.shape,
        len(taps), x.stride(0), x.stride(1),
    )  # fmt: skip
    return y


class NativeConvSiLU(torch.autograd.Function):
    """Saves its inputs, x as it lies in memory."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, weight: Tensor, bias: Tensor, ids: Tensor | None, window: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.ids = ids
        return conv_forward(x, weight, bias, ids, window)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        x, weight, bias = ctx.saved_tensors
        x, grad, parts = with_adjacent_channels(x), with_adjacent_channels(grad), torch.get_num_threads()
        taps = weight.t().contiguous()
        grad_x, sums = x.new_empty(x.shape), torch.zeros(parts, len(taps) + 1, x.shape[2])
        getattr(functions(), f"conv_silu_backward_{SUFFIX[x.dtype]}")(
            x.data_ptr(), pointer(ctx.ids), taps.data_ptr(), bias.data_ptr(), grad.data_ptr(), grad_x.data_ptr(),
            sums.data_ptr(), *x.shape, len(taps), x.stride(0), x.stride(1), grad.stride(0), grad.stride(1), parts,
        )  # fmt: skip
        sums = sums.sum(dim=0)
        return grad_x, sums[:-1].t().contiguous(), sums[-1], None, None


def refuses(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if dtype != torch.float32:
        return f"it writes float32, not {dtype}"
    if x.dim() != 3 or not x.numel() or x.shape[2] % LANES or weight.shape != (x.shape[2], weight.shape[-1]):
        return f"x is {tuple(x.shape)}"
    if not 1 <= weight.shape[1] <= MOST_TAPS:
        return f"{weight.shape[1]} taps"
    if window is not None and torch.is_grad_enabled():
        return "a window may need gradients"
    return (
        refused_tensor("x", x)
        or refused_tensor("weight", weight, torch.float32)
        or refused_tensor("bias", bias, torch.float32)
    )


def self_test() -> str | None:
    """See `NativeKernels`."""
    ids = torch.tensor([0] * 20 + [1] + [2] * 49)[None]
    for given in (None, ids):
        wrong = difference(
            functools.partial(causal_conv_silu_reference, document_ids=given),
            functools.partial(causal_conv_silu, document_ids=given),
            torch.randn(1, 70, 48),
            torch.randn(48, 4),
            torch.randn(48),
        )
        if wrong:
            return wrong
    return None


KERNELS = NativeKernels(
    operations={"causal_conv_silu": Kernel(name="native", run=causal_conv_silu, refuses=refuses)},
    unsupported=lambda: None,
    self_test=self_test,
)
