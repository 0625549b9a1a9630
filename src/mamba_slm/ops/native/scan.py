"""The scan head by head, in chunks of 64 positions that stay in the cache; any decay, however steep.

Saves its inputs and the state before every chunk.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.native.arguments import POINTER, SIZE, declare, pointer, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import NativeKernels, difference
from mamba_slm.ops.shapes import check_shapes
from mamba_slm.ops.ssd_reference import ssd_reference

LANES, LARGEST_HEAD_DIM = 16, 64
CHUNK = 64  # Q of scan.cpp


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("scan")
    declare(found, "scan_forward", *[POINTER] * 12)
    declare(found, "scan_backward", *[POINTER] * 9, SIZE, SIZE, *[POINTER] * 9)
    return found


def ssd_native(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `ssd_reference`; the result does not depend on `chunk_size`."""
    return ssd_native_with_skip(x, dt, A, B, C, None, state=state, document_ids=document_ids)


def ssd_native_with_skip(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """See `mamba_slm.ops.ssd.ssd_scan_with_skip`."""
    check_shapes(x=(x, "b t h p"), dt=(dt, "b t h"), A=(A, "h"), B=(B, "b t g n"), C=(C, "b t g n"))
    ids = None if document_ids is None else document_ids.to(torch.int64).contiguous()
    x, B, C = (with_adjacent_heads(tensor) for tensor in (x, B, C))
    dt = dt if dt.stride(2) == 1 else dt.contiguous()
    first = None if state is None else state.contiguous()
    inputs = (x, dt, A.contiguous(), B, C, None if D is None else D.contiguous(), first)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        return NativeScan.apply(*inputs, ids)  # type: ignore[no-any-return]
    return scan_forward(*inputs, ids, None)


def with_adjacent_heads(x: Tensor) -> Tensor:
    """[b t h p] whose heads lie beside each other, x itself where they do."""
    return x if x.stride(3) == 1 and (x.shape[2] == 1 or x.stride(2) == x.shape[3]) else x.contiguous()


def sizes_of(x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> ctypes.Array[ctypes.c_int64]:
    """`Sizes` of scan.cpp."""
    (b, t, h, p), (g, n) = x.shape, B.shape[2:]
    parts = min(h // g, -(-torch.get_num_threads() // (b * g)))
    strides = [stride for tensor in (x, dt, B, C) for stride in tensor.stride()[:2]]
    return (ctypes.c_int64 * 15)(b, t, h, p, g, n, parts, *strides)


def scan_forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    first: Tensor | None,
    ids: Tensor | None,
    states: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """y [b t h p] and the last state [b h p n]; the states before every chunk go to `states` [b c h n p]."""
    b, t, h, p = x.shape
    y, last = torch.empty(b, t, h, p), torch.empty(b, h, p, B.shape[3])
    pointers = (pointer(tensor) for tensor in (x, dt, A, B, C, D, first, ids, y, last, states))
    functions().scan_forward(*pointers, sizes_of(x, dt, B, C))
    return y, last


class NativeScan(torch.autograd.Function):
    """See the top of scan.cpp."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        first: Tensor | None,
        ids: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        (b, t, h, p), n = x.shape, B.shape[3]
        states = torch.empty(b, -(-t // CHUNK), h, n, p)
        y, last = scan_forward(x, dt, A, B, C, D, first, ids, states)
        ctx.save_for_backward(x, dt, A, B, C, D, states)
        ctx.ids, ctx.has_first = ids, first is not None
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_y: Tensor | None, grad_last: Tensor | None):  # type: ignore[override]
        x, dt, A, B, C, D, states = ctx.saved_tensors
        grad_y = torch.zeros(x.shape) if grad_y is None else with_adjacent_heads(grad_y)
        grad_last = None if grad_last is None else grad_last.contiguous()
        sizes = sizes_of(x, dt, B, C)
        parts = sizes[6]
        grad_x, grad_dt, grad_A = torch.empty(x.shape), torch.empty(dt.shape), torch.empty(len(x), x.shape[2])
        grad_B, grad_C = torch.empty(parts, *B.shape), torch.empty(parts, *B.shape)
        grad_D = None if D is None else torch.empty_like(grad_A)
        grad_first = torch.empty(len(x), *x.shape[2:], B.shape[3]) if ctx.has_first else None
        before = (pointer(tensor) for tensor in (x, dt, A, B, C, D, ctx.ids, states, grad_y))
        results = (grad_last, grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_first)
        found = (pointer(tensor) for tensor in results)
        functions().scan_backward(*before, grad_y.stride(0), grad_y.stride(1), *found, sizes)
        grad_D = None if grad_D is None else grad_D.sum(dim=0)
        return grad_x, grad_dt, grad_A.sum(dim=0), grad_B.sum(dim=0), grad_C.sum(dim=0), grad_D, grad_first, None


def refuses(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int = CHUNK,
) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if x.dim() != 4 or B.dim() != 4 or not x.numel() or x.shape[3] % LANES or x.shape[3] > LARGEST_HEAD_DIM:
        return f"x is {tuple(x.shape)}"
    if B.shape[3] % LANES or x.shape[2] % B.shape[2]:
        return f"B is {tuple(B.shape)}"
    named = {"x": x, "dt": dt, "A": A, "B": B, "C": C} | ({} if state is None else {"state": state})
    return next((reason for name, m in named.items() if (reason := refused_tensor(name, m, torch.float32))), None)


def refuses_with_skip(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int = CHUNK,
) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    return refuses(x, dt, A, B, C, state=state) or refused_tensor("D", D, torch.float32)


def self_test() -> str | None:
    """See `NativeKernels`."""
    generator = torch.Generator().manual_seed(0)
    x, B, C = (torch.randn(1, 70, h, size, generator=generator) for h, size in ((4, 32), (2, 48), (2, 48)))
    dt, A = torch.rand(1, 70, 4, generator=generator), -torch.rand(4, generator=generator) - 0.1
    D, state = torch.randn(4, generator=generator), torch.randn(1, 4, 32, 48, generator=generator)
    ids = torch.tensor([0] * 20 + [1] + [2] * 49)[None]

    for given in (None, ids):

        def both(function, *args, given: Tensor | None = given):
            *inputs, skip, first = args
            y, last = function(*inputs, skip, state=first, document_ids=given)
            return torch.cat([y.flatten(), last.flatten()])

        definition, kernel = functools.partial(both, scan_by_definition), functools.partial(both, ssd_native_with_skip)
        if wrong := difference(definition, kernel, x, dt, A, B, C, D, state):
            return wrong
    return None


def scan_by_definition(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, **settings: Any):
    """`ssd_scan_with_skip` by `ssd_reference`."""
    y, last = ssd_reference(x, dt, A, B, C, **settings)
    return y + D[:, None] * x, last


KERNELS = NativeKernels(
    operations={
        "ssd_scan": Kernel(name="native", run=ssd_native, refuses=refuses),
        "ssd_scan_with_skip": Kernel(name="native", run=ssd_native_with_skip, refuses=refuses_with_skip),
    },
    unsupported=lambda: None,
    self_test=self_test,
)
