"""The scan on GPUs: what the kernels of `ssd_kernels` and `ssd_gradients` need, and their backward pass.

Letters: b batch, t time, h heads, p head dim, g groups, n state, c chunks, q positions in a chunk.
The cut into kernels per chunk is that of Dao and Gu, arXiv:2405.21060. That one program walks along the chunks with a
tile of the state, so that no kernel passes states on, is that of flash-linear-attention (`fla/ops/common`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import SetupError
from mamba_slm.ops.shapes import check_shapes
from mamba_slm.ops.ssd_chunked import DEFAULT_CHUNK_SIZE, ssd_chunked
from mamba_slm.ops.triton.language import INTERPRETED, block, last_contiguous, on_device_of
from mamba_slm.ops.triton.ssd_gradients import group_gradients, head_gradients
from mamba_slm.ops.triton.ssd_kernels import carry_states, chunk_decays, chunk_outputs

KERNEL_CHUNK_SIZE = 64
"""Positions per chunk, whatever the config says: the function does not depend on it, and (q, q) matrices of one head
have to stay in the registers of one program."""
LARGEST_HEAD_DIM = 128
STATE_TILE = 64
PROGRAMS_WANTED = 264
"""Programs that fill a GPU: two for each of 132 multiprocessors."""


def ssd_triton(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `ssd_reference`; `chunk_size` is not used.

    Products take bfloat16 factors where x is bfloat16, else float32 ones; sums, decays and the carried state are
    float32. Saves its inputs, computes the states again in the backward pass. Gradients of gradients are not supported.
    Heads wider than LARGEST_HEAD_DIM are `ssd_chunked`.

    Raises:
        SetupError: x is not on a GPU.

    Memory: the states before all chunks, b h c p n values of the dtype of x, for the time of the call.
    """
    size = check_shapes(x=(x, "b t h p"), dt=(dt, "b t h"), A=(A, "h"), B=(B, "b t g n"), C=(C, "b t g n"))
    if not (x.is_cuda or INTERPRETED):
        raise SetupError(f"the scan backend 'triton' runs on GPUs, and x is on {x.device}", hint="use 'auto'")
    if size["p"] > LARGEST_HEAD_DIM:
        return ssd_chunked(x, dt, A, B, C, state=state, document_ids=document_ids, chunk_size=chunk_size)
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        steps = F.pad(dt.float().transpose(1, 2), (0, -size["t"] % KERNEL_CHUNK_SIZE))  # [b h c*q]
        inputs = (x.to(dtype), steps.contiguous(), A.float(), B.to(dtype), C.to(dtype))
        y, last = TritonScan.apply(*inputs, state if state is None else state.float(), segments(document_ids))
    return y.to(x.dtype), last


def segments(document_ids: Tensor | None) -> Tensor | None:
    """Number the documents of each row from 0, also behind the end: [b t] to [b c*q] int32."""
    if document_ids is None:
        return None
    changes = F.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, -document_ids.shape[1] % KERNEL_CHUNK_SIZE))
    return changes.cumsum(dim=1, dtype=torch.int32)


class TritonScan(torch.autograd.Function):
    """x [b t h p], dt [b h c*q] float32, A [h], B and C [b t g n], first state, segments to y and the last state."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, first, segment):  # type: ignore[override]
        x, A, B, C = (last_contiguous(m) for m in (x, A, B, C))
        first = None if first is None else first.contiguous()
        with on_device_of(x):
            a = decays(dt, A, segment)
            states, last = states_before_chunks(x, B, dt, a, first, segment)
            y = outputs(x, B, C, dt, a, states, segment)
        ctx.save_for_backward(x, dt, A, B, C, first, segment, a)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_y, grad_last):  # type: ignore[override]
        x, dt, A, B, C, first, segment, a = ctx.saved_tensors
        grad_y, grad_last = grad_y.contiguous(), grad_last.contiguous()
        with on_device_of(x):
            states, _ = states_before_chunks(x, B, dt, a, first, segment)
            grad_states, grad_first = gradients_behind_chunks(grad_y, C, dt, a, grad_last, segment)
            saved = (x, B, C, dt, a, segment, states, grad_states, grad_y)
            grad_x, grad_dt, grad_A = gradients_of_heads(A, *saved)
            grad_B, grad_C = gradients_of_groups(*saved)
        return grad_x, grad_dt, grad_A, grad_B, grad_C, None if first is None else grad_first, None


def decays(dt: Tensor, A: Tensor, segment: Tensor | None) -> Tensor:
    """Running sums of dt A within chunk and document, [b h c*q]."""
    b, h, padded = dt.shape
    a, q = torch.empty_like(dt), KERNEL_CHUNK_SIZE
    documents = segment is not None
    chunk_decays[(padded // q, b * h)](dt, A, segment if documents else a, a, h, padded, Q=q, HAS_DOCUMENTS=documents)
    return a


def states_before_chunks(
    x: Tensor, B: Tensor, dt: Tensor, a: Tensor, first: Tensor | None, segment: Tensor | None
) -> tuple[Tensor, Tensor]:
    """States [b h c p n] in the dtype of x, and the last one [b h p n] float32."""
    return carried(x, B, dt, a, first, segment, backward=False)


def gradients_behind_chunks(
    grad_y: Tensor, C: Tensor, dt: Tensor, a: Tensor, grad_last: Tensor, segment: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of the states behind all chunks, and of the first state; shapes as `states_before_chunks`."""
    return carried(grad_y, C, dt, a, grad_last, segment, backward=True)


def carried(
    values: Tensor,
    directions: Tensor,
    dt: Tensor,
    a: Tensor,
    first: Tensor | None,
    segment: Tensor | None,
    *,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """Run `carry_states`."""
    (b, t, h, p), (g, n), c = values.shape, directions.shape[2:], chunks_of(dt)
    states = values.new_empty(b, h, c, p, n)
    last = values.new_empty(b, h, p, n, dtype=torch.float32)
    tile = block(p, most=STATE_TILE), block(n, most=STATE_TILE)
    grid = (-(-p // tile[0]) * -(-n // tile[1]), b * h)
    unused = a
    carry_states[grid](
        *(values, directions, dt, a, unused if segment is None else segment),
        *(unused if first is None else first, states, last),
        *(t, h, p, n, c, h // g, *values.stride()[:3], *directions.stride()[:3]),
        Q=KERNEL_CHUNK_SIZE,
        P=tile[0],
        N=tile[1],
        HAS_FIRST=first is not None,
        HAS_DOCUMENTS=segment is not None,
        BACKWARD=backward,
        num_warps=4 if values.dtype == torch.bfloat16 else 8,
        num_stages=stages(values),
    )
    return states, last


def outputs(x: Tensor, B: Tensor, C: Tensor, dt: Tensor, a: Tensor, states: Tensor, segment: Tensor | None) -> Tensor:
    """y [b t h p] in the dtype of x."""
    (b, t, h, p), (g, n), c = x.shape, B.shape[2:], chunks_of(dt)
    y = x.new_empty(b, t, h, p)
    chunk_outputs[(c, b * h)](
        *(x, B, C, dt, a, a if segment is None else segment, states, y),
        *(t, h, p, n, c, h // g, *x.stride()[:3], *B.stride()[:3], *C.stride()[:3]),
        **tiles(x, n, segment),
    )
    return y


def gradients_of_heads(
    A: Tensor,
    x: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    a: Tensor,
    segment: Tensor | None,
    states: Tensor,
    grad_states: Tensor,
    grad_y: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, dt and A in their shapes."""
    (b, t, h, p), (g, n), c = x.shape, B.shape[2:], chunks_of(dt)
    grad_x, grad_dt, grad_A = torch.empty_like(grad_y), torch.empty_like(dt), dt.new_empty(b, h, c)
    head_gradients[(c, b * h)](
        *(x, B, C, dt, A, a, a if segment is None else segment, states, grad_states, grad_y, grad_x, grad_dt, grad_A),
        *(t, h, p, n, c, h // g, *x.stride()[:3], *B.stride()[:3], *C.stride()[:3]),
        **tiles(x, n, segment, wide=True),
    )
    return grad_x, grad_dt, grad_A.sum(dim=(0, 2))


def gradients_of_groups(
    x: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    a: Tensor,
    segment: Tensor | None,
    states: Tensor,
    grad_states: Tensor,
    grad_y: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of B and C."""
    (b, t, h, p), (g, n), c = x.shape, B.shape[2:], chunks_of(dt)
    settings = tiles(x, n, segment)
    blocks, parts = -(-n // settings["N"]), 1
    while c * b * g * blocks * parts < PROGRAMS_WANTED and h // g % (2 * parts) == 0:
        parts *= 2
    grad_B = B.new_empty(parts, b, t, g, n, dtype=B.dtype if parts == 1 else torch.float32)
    grad_C = torch.empty_like(grad_B)
    group_gradients[(c, b * g, blocks * parts)](
        *(x, B, C, dt, a, a if segment is None else segment, states, grad_states, grad_y, grad_B, grad_C),
        *(t, h, g, p, n, c, h // g, h // g // parts, b, *x.stride()[:3], *B.stride()[:3], *C.stride()[:3]),
        **settings,
    )
    if parts == 1:
        return grad_B[0], grad_C[0]
    return grad_B.sum(dim=0).to(B.dtype), grad_C.sum(dim=0).to(C.dtype)


def chunks_of(dt: Tensor) -> int:
    """Number of chunks of steps [b h c*q]."""
    return dt.shape[2] // KERNEL_CHUNK_SIZE


def tiles(x: Tensor, n: int, segment: Tensor | None, *, wide: bool = False) -> dict[str, int | bool]:
    """What the kernels over (q, q) matrices are compiled for.

    Twice the threads where the registers of 128 would not hold the tiles: float32, heads of 128, and `wide` kernels.
    """
    P = block(x.shape[3], most=LARGEST_HEAD_DIM)
    small = P <= STATE_TILE and x.dtype == torch.bfloat16 and not wide
    return {
        "Q": KERNEL_CHUNK_SIZE,
        "P": P,
        "N": block(n, most=STATE_TILE),
        "HAS_DOCUMENTS": segment is not None,
        "num_warps": 4 if small else 8,
        "num_stages": stages(x),
    }


def stages(x: Tensor) -> int:
    """How many turns of a loop are loaded ahead: float32 tiles fill a multiprocessor's memory without that."""
    return 3 if x.dtype == torch.bfloat16 else 1
