"""Causal `attention` block by block, each way: no score is kept, and blocks that nobody sees cost nothing."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from mamba_slm.core.processor import has_instructions
from mamba_slm.ops.attention import attention_reference, document_starts
from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.native.arguments import POINTER, SIZE, SUFFIX, declare, pointer, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import SELF_TEST_TOLERANCE, NativeKernels, difference

LANES = 16
LARGEST_HEAD = 256
SHORTEST = 32
"""Below so many keys PyTorch's operators are as fast."""
SELF_TEST_TOLERANCE_BF16 = 2e-2
"""Weights and their gradients are rounded at 2^-9 of their size before they are multiplied."""


class Problem(ctypes.Structure):
    """Sizes, and the strides of batch, time and head; `struct Problem` of attention.cpp."""

    _fields_ = [(name, SIZE) for name in ("b", "t", "s", "h", "kv", "d")] + [(name, SIZE * 3) for name in "qkv"]


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("attention")
    for dtype, suffix in SUFFIX.items():
        if dtype is torch.float32 or multiplies_bf16():
            declare(found, f"attention_forward_{suffix}", *[POINTER] * 7)
            declare(found, f"attention_backward_{suffix}", *[POINTER] * 11)
    return found


@functools.cache
def multiplies_bf16() -> bool:
    """Whether processor and compiler know products of bfloat16 that are summed in float32."""
    return has_instructions("avx512f", "avx512_bf16") and hasattr(library("attention"), "attention_forward_bf16")


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first_key: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """See `mamba_slm.ops.attention.attention_reference`."""
    assert mask is None and bias is None
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return AttentionFunction.apply(q, k, v, first_key)  # type: ignore[no-any-return]
    return forward(*side_by_side(q, k, v, first_key), logsumexp=None)


def side_by_side(
    q: Tensor, k: Tensor, v: Tensor, first_key: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The same, with the values of a head side by side; copied only where they are not."""
    q, k, v = (m if m.stride(-1) == 1 else m.contiguous() for m in (q, k, v))
    return q, k, v, None if first_key is None else first_key.to(torch.int64).contiguous()


def problem(q: Tensor, k: Tensor, v: Tensor) -> Problem:
    """What C is told about sizes and strides."""
    (b, t, h, d), (s, kv) = q.shape, k.shape[1:3]
    return Problem(b, t, s, h, kv, d, *((SIZE * 3)(*m.stride()[:3]) for m in (q, k, v)))


def forward(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor | None, *, logsumexp: Tensor | None) -> Tensor:
    """[b t h d] contiguous; fills `logsumexp` [b h t] float32."""
    out = torch.empty(q.shape, dtype=q.dtype)
    run = getattr(functions(), f"attention_forward_{SUFFIX[q.dtype]}")
    pointers = (pointer(m) for m in (q, k, v, first_key, out, logsumexp))
    run(ctypes.byref(problem(q, k, v)), *pointers)
    return out


class AttentionFunction(torch.autograd.Function):
    """Saves its arguments, what it returns, and the logarithm of each row's sum."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, first_key: Tensor | None) -> Tensor:  # type: ignore[override]
        q, k, v, first_key = side_by_side(q, k, v, first_key)
        b, t, h, _ = q.shape
        logsumexp = torch.empty(b, h, t, dtype=torch.float32)
        out = forward(q, k, v, first_key, logsumexp=logsumexp)
        ctx.save_for_backward(q, k, v, first_key, out, logsumexp)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        q, k, v, first_key, out, logsumexp = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty(m.shape, dtype=m.dtype) for m in (q, k, v))
        run = getattr(functions(), f"attention_backward_{SUFFIX[q.dtype]}")
        grad = grad.contiguous()
        pointers = (pointer(m) for m in (q, k, v, first_key, out, logsumexp, grad, grad_q, grad_k, grad_v))
        run(ctypes.byref(problem(q, k, v)), *pointers)
        return grad_q, grad_k, grad_v, None


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first_key: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> str | None:
    """Why the kernel cannot take these, or None."""
    if mask is not None or bias is not None:
        return "a mask or a bias"
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if reason := refused_tensor(name, tensor):
            return reason
    if not q.dtype == k.dtype == v.dtype:
        return f"q is {q.dtype}, k {k.dtype}, v {v.dtype}"
    if q.dtype == torch.bfloat16 and not multiplies_bf16():
        return "this processor has no products of bfloat16 (AVX512-BF16)"
    if first_key is not None and (first_key.shape != q.shape[:2] or first_key.device.type != "cpu"):
        return f"first_key is {tuple(first_key.shape)} on {first_key.device}"
    (b, t, h, d), (b2, s, kv, d2) = q.shape, k.shape
    if (b2, d2) != (b, d) or v.shape != k.shape or h % max(kv, 1) or t > s:
        return f"shapes {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
    if not q.numel() or d % LANES or d > LARGEST_HEAD:
        return f"heads of {d}: no multiple of {LANES} up to {LARGEST_HEAD}"
    if t == 1 or s < SHORTEST:
        return f"{t} queries and {s} keys: the call would cost more than the work"
    return None


def unsupported() -> str | None:
    """See `NativeKernels`."""
    return (
        None if has_instructions("avx512f") else "it keeps sums in the registers of AVX-512, which this processor lacks"
    )


def self_test() -> str | None:
    """See `NativeKernels`."""
    inputs = [torch.randn(1, 70, heads, 32) for heads in (4, 2, 2)]
    starts = document_starts(torch.arange(70)[None] // 40)
    dtypes = {torch.float32: SELF_TEST_TOLERANCE, torch.bfloat16: SELF_TEST_TOLERANCE_BF16}
    for dtype, tolerance in dtypes.items():
        if dtype == torch.bfloat16 and not multiplies_bf16():
            continue
        definition, kernel = (
            functools.partial(in_dtype, dtype, way, starts) for way in (attention_reference, attention)
        )
        if (wrong := difference(definition, kernel, *inputs, tolerance=tolerance)) is not None:
            return f"{dtype}: {wrong}"
    return None


def in_dtype(dtype: torch.dtype, way: Callable[..., Tensor], first_key: Tensor, *inputs: Tensor) -> Tensor:
    """`way` of attention on inputs rounded to `dtype`."""
    return way(*(m.to(dtype) for m in inputs), first_key=first_key).float()


KERNELS = NativeKernels(
    operations={"attention": Kernel(name="native", run=attention, refuses=refuses)},
    unsupported=unsupported,
    self_test=self_test,
)
