"""The causal convolution with SiLU behind it, in one pass over memory each way.

Letters: b batch, t time, c channels, k taps. Saves inputs only; the backward pass computes the few sums again.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mamba_slm.ops.conv import causal_conv_silu_reference
from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.shapes import check_shapes
from mamba_slm.ops.triton.arguments import first_reason, refused_tensor
from mamba_slm.ops.triton.language import block, jit, last_contiguous, narrow, on_device_of, sigmoid, tl, triton
from mamba_slm.ops.triton.start import TritonKernels, difference

ROWS = 32
COLUMNS = 64
MOST_TAPS = 8


@jit
def inputs_at(
    x, window, ids, own, at, i, c, channels, x_t, taps, HAS_WINDOW: tl.constexpr, HAS_DOCUMENTS: tl.constexpr
):
    """Inputs [r c] at positions `at` [r], those of the window before 0; 0 where the document is not `own` [r], or None
    is there. `ids` is 0-based at this row of the batch."""
    seen = at >= 0
    if HAS_DOCUMENTS:
        allowed = tl.load(ids + tl.maximum(at, 0)) == own
        seen = seen & allowed
    values = tl.load(x + at[:, None] * x_t + i[None, :], mask=seen[:, None] & (i[None, :] < c), other=0.0)
    values = values.to(tl.float32)
    if HAS_WINDOW:
        before = (at < 0) & (at >= 1 - taps)
        if HAS_DOCUMENTS:
            before = before & allowed
        kept = window + (at + taps - 1)[:, None] * channels + i[None, :]
        values += tl.load(kept, mask=before[:, None] & (i[None, :] < c), other=0.0).to(tl.float32)
    return values


@jit
def conv_forward(
    x, weight, bias, window, ids, y, t, c, x_b, x_t,
    TAPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    HAS_WINDOW: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of t, tiles of c, b): y [b t c] dense."""
    batch = tl.program_id(2).to(tl.int64)
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    ids += batch * t
    own = at
    if HAS_DOCUMENTS:
        own = tl.load(ids + tl.minimum(at, t - 1))
    total = (
        tl.zeros((ROWS, COLUMNS), dtype=tl.float32) + tl.load(bias + i, mask=i < c, other=0.0).to(tl.float32)[None, :]
    )
    for back in tl.static_range(TAPS):  # pyright: ignore[reportGeneralTypeIssues]
        w = tl.load(weight + i * TAPS + (TAPS - 1 - back), mask=i < c, other=0.0).to(tl.float32)
        earlier = tl.where(at < t, at - back, -TAPS)
        total += w[None, :] * inputs_at(
            x + batch * x_b, window + batch * (TAPS - 1) * c, ids, own, earlier, i, c, c, x_t, TAPS,
            HAS_WINDOW=HAS_WINDOW, HAS_DOCUMENTS=HAS_DOCUMENTS,
        )  # fmt: skip
    total *= sigmoid(total)
    inside = (at[:, None] < t) & (i[None, :] < c)
    tl.store(y + (batch * t + at[:, None]) * c + i[None, :], narrow(total, y.dtype.element_ty), mask=inside)


@jit
def conv_backward(
    x, weight, bias, window, ids, grad, grad_padded, grad_weight, grad_bias, t, c, x_b, x_t,
    TAPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    HAS_WINDOW: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of k-1+t, tiles of c, b): gradients of window and x [b k-1+t c], parts of those of weight and bias.

    A program has the inputs at ROWS positions; the k outputs that read an input lie `ahead` of it.
    """
    batch = tl.program_id(2).to(tl.int64)
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS) - (TAPS - 1)
    i = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    part = batch * tl.num_programs(0) + tl.program_id(0)
    ids += batch * t
    x += batch * x_b
    window += batch * (TAPS - 1) * c
    in_columns = i[None, :] < c
    of_input = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    shift = tl.load(bias + i, mask=i < c, other=0.0).to(tl.float32)[None, :]
    own = at
    if HAS_DOCUMENTS:
        own = tl.load(ids + tl.minimum(tl.maximum(at, 0), t - 1))
    here = inputs_at(
        x, window, ids, own, tl.where(at < t, at, -TAPS), i, c, c, x_t, TAPS,
        HAS_WINDOW=HAS_WINDOW, HAS_DOCUMENTS=HAS_DOCUMENTS,
    )  # fmt: skip
    for ahead in tl.static_range(TAPS):  # pyright: ignore[reportGeneralTypeIssues]
        out = at + ahead
        reads = (out >= 0) & (out < t)
        w = tl.load(weight + i * TAPS + (TAPS - 1 - ahead), mask=i < c, other=0.0).to(tl.float32)
        g = tl.load(grad + (batch * t + out[:, None]) * c + i[None, :], mask=reads[:, None] & in_columns, other=0.0)
        g = g.to(tl.float32)
        its = out
        if HAS_DOCUMENTS:
            its = tl.load(ids + tl.minimum(tl.maximum(out, 0), t - 1))
        total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32) + shift
        for back in tl.static_range(TAPS):  # pyright: ignore[reportGeneralTypeIssues]
            v = tl.load(weight + i * TAPS + (TAPS - 1 - back), mask=i < c, other=0.0).to(tl.float32)
            total += v[None, :] * inputs_at(
                x, window, ids, its, tl.where(reads, out - back, -TAPS), i, c, c, x_t, TAPS,
                HAS_WINDOW=HAS_WINDOW, HAS_DOCUMENTS=HAS_DOCUMENTS,
            )  # fmt: skip
        open_ = sigmoid(total)
        g *= open_ * (1 + total * (1 - open_))
        if ahead == 0:
            of_bias = tl.sum(g, axis=0)
        if HAS_DOCUMENTS:
            g = tl.where((its == own)[:, None], g, 0.0)
        of_input += w[None, :] * g
        place = grad_weight + (part * c + i) * TAPS + (TAPS - 1 - ahead)
        tl.store(place, tl.sum(g * here, axis=0), mask=i < c)
    tl.store(grad_bias + part * c + i, of_bias, mask=i < c)
    inside = (at[:, None] < t) & in_columns
    place = grad_padded + (batch * (t + TAPS - 1) + at[:, None] + TAPS - 1) * c + i[None, :]
    tl.store(place, narrow(of_input, grad_padded.dtype.element_ty), mask=inside)


def causal_conv_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """See `mamba_slm.ops.conv.causal_conv_silu_reference`; the result is rounded to `dtype` at the end."""
    check_shapes(x=(x, "b t c"), weight=(weight, "c k"), bias=(bias, "c"))
    return ConvSiLUFunction.apply(x, weight, bias, window, document_ids, dtype)  # type: ignore[no-any-return]


class ConvSiLUFunction(torch.autograd.Function):
    """Saves its inputs as they lie in memory."""

    @staticmethod
    def forward(ctx, x, weight, bias, window, document_ids, dtype):  # type: ignore[override]
        x, weight, bias = last_contiguous(x), weight.contiguous(), bias.contiguous()
        window = None if window is None else window.contiguous()
        ids = None if document_ids is None else document_ids.contiguous()
        ctx.save_for_backward(x, weight, bias, window, ids)
        b, t, c = x.shape
        y = x.new_empty(b, t, c, dtype=dtype)
        with on_device_of(x):
            conv_forward[(triton.cdiv(t, ROWS), triton.cdiv(c, COLUMNS), b)](
                *pointers(x, weight, bias, window, ids), y, t, c, *x.stride()[:2], **settings_of(weight, window, ids)
            )
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        x, weight, bias, window, ids = ctx.saved_tensors
        (b, t, c), taps, grad = x.shape, weight.shape[1], grad.contiguous()
        padded = x.new_empty(b, taps - 1 + t, c)
        tiles = triton.cdiv(taps - 1 + t, ROWS)
        grad_weight = x.new_empty(b * tiles, c, taps, dtype=torch.float32)
        grad_bias = x.new_empty(b * tiles, c, dtype=torch.float32)
        with on_device_of(x):
            conv_backward[(tiles, triton.cdiv(c, COLUMNS), b)](
                *(*pointers(x, weight, bias, window, ids), grad, padded, grad_weight, grad_bias, t, c, *x.stride()[:2]),
                **settings_of(weight, window, ids),
            )
        grad_window = None if window is None else padded[:, : taps - 1].to(window.dtype)
        grad_weight, grad_bias = grad_weight.sum(dim=0).to(weight.dtype), grad_bias.sum(dim=0).to(bias.dtype)
        return padded[:, taps - 1 :], grad_weight, grad_bias, grad_window, None, None


def pointers(
    x: Tensor, weight: Tensor, bias: Tensor, window: Tensor | None, ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The tensors of a launch; x stands where there is none."""
    return x, weight, bias, x if window is None else window, x if ids is None else ids


def settings_of(weight: Tensor, window: Tensor | None, ids: Tensor | None) -> dict[str, int | bool]:
    """What the kernels are compiled for."""
    return {
        "TAPS": weight.shape[1],
        "ROWS": ROWS,
        "COLUMNS": block(weight.shape[0], most=COLUMNS),
        "HAS_WINDOW": window is not None,
        "HAS_DOCUMENTS": ids is not None,
    }


def refuses(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> str | None:
    """Why the kernel cannot take these, or None."""
    if weight.shape[1] > MOST_TAPS:
        return f"{weight.shape[1]} taps are more than {MOST_TAPS}"
    return first_reason(
        refused_tensor("x", x),
        refused_tensor("weight", weight),
        refused_tensor("bias", bias),
        None if window is None or not window.numel() else refused_tensor("window", window),
    )


def self_test(device: torch.device) -> str | None:
    """See `TritonKernels`."""
    x, weight, bias, window = (
        torch.randn(*shape, device=device) for shape in ((1, 64, 72), (72, 4), (72,), (1, 3, 72))
    )
    ids = (torch.arange(64, device=device) >= 30).long()[None]

    def with_window(function, x: Tensor, weight: Tensor, bias: Tensor, window: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return function(x, weight, bias, window=window, document_ids=ids)

    return difference(
        functools.partial(with_window, causal_conv_silu_reference),
        functools.partial(with_window, causal_conv_silu),
        *(x, weight, bias, window),
    )


KERNELS = TritonKernels(
    operations={"causal_conv_silu": Kernel(name="triton", run=causal_conv_silu, refuses=refuses)},
    self_test=self_test,
)
