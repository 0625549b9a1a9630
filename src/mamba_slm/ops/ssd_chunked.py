"""The Mamba-2 recurrence as matrix products over chunks, in plain PyTorch: works on every device and differentiates.

Letters: b batch, t time, c chunks, q positions in a chunk, h heads, p head dim, g groups, n state.

Within a chunk, a[i] is the running sum of dt * A. Then
    Y_inside = ((C Bᵀ) ∘ exp(a[i] - a[j]) where j <= i) (dt x)
    S        = Σ_j exp(a[q-1] - a[j]) dt[j] x[j] ⊗ B[j]           what the chunk adds to the state
    H'       = exp(a[q-1]) H + S                                  carried from chunk to chunk, in float32
    Y_before = exp(a[i]) C[i] · H
Differences are taken before exp (their exponents are <= 0), and masked with -inf before it: inf * 0 would be NaN in
the backward pass. No tensor of shape (b, c, q, q, h, n) is ever formed; memory grows linearly in t.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.shapes import check_shapes

DEFAULT_CHUNK_SIZE = 64


def ssd_chunked(
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
    """Same arguments and results as `ssd_reference`; `chunk_size` is the number of positions per chunk.

    Computes in float32 whatever the dtype of x, also under autocast. Needs a length of at least 1; any length works.

    Cost per token and head: 2q(n/heads-per-group + p) + 4pn multiply-adds, as matrix products.
    Source: Dao and Gu, arXiv:2405.21060, Listing 1; the masks for document boundaries are ours.
    """
    size = check_shapes(x=(x, "b t h p"), dt=(dt, "b t h"), A=(A, "h"), B=(B, "b t g n"), C=(C, "b t g n"))
    with torch.autocast(x.device.type, enabled=False):
        y, state = scan_chunks(x.float(), dt.float(), A.float(), B.float(), C.float(), state, document_ids, chunk_size)
    return y[:, : size["t"]].to(x.dtype), state


def scan_chunks(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None,
    document_ids: Tensor | None,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """The scan in float32. Returns y with the length rounded up to whole chunks."""
    b, t, h, p = x.shape
    g, n = B.shape[2:]
    q = min(chunk_size, t)
    if remainder := -t % q:
        x, dt, B, C = (F.pad(m, (0, 0) * (m.dim() - 2) + (0, remainder)) for m in (x, dt, B, C))  # dt = 0: no effect
    c = x.shape[1] // q

    log_decay = (dt * A).view(b, c, q, h).transpose(2, 3)  # [b c h q]
    xdt = (x * dt[..., None]).view(b, c, q, h, p)
    Bc, Cc = (m.view(b, c, q, g, n).transpose(2, 3) for m in (B, C))  # [b c g q n]
    allowed = torch.ones(q, q, dtype=torch.bool, device=x.device).tril()
    if document_ids is None:
        a = log_decay.cumsum(dim=3)
        to_end, from_start = a[..., -1:] - a, a  # exponents, <= 0
    else:
        segment = boundaries_in_chunks(document_ids, c, q)  # [b c 1 q]
        a = cumsum_in_documents(log_decay, segment)
        allowed = allowed & (segment[..., :, None] == segment[..., None, :])  # [b c 1 q q]
        to_end = (a[..., -1:] - a).masked_fill(segment != segment[..., -1:], -torch.inf)
        from_start = a.masked_fill(segment > 0, -torch.inf)

    products = Cc @ Bc.transpose(3, 4)  # [b c g q q]
    if g > 1:
        products = products.repeat_interleave(h // g, dim=2)
    inside = (a[..., :, None] - a[..., None, :]).masked_fill(~allowed, -torch.inf).exp() * products  # [b c h q q]
    y = inside @ xdt.transpose(2, 3)  # [b c h q p]

    weighted = xdt * to_end.exp().transpose(2, 3)[..., None]  # [b c q h p]
    weighted = weighted.view(b, c, q, g, h // g * p).permute(0, 1, 3, 4, 2)  # [b c g hp q]
    added = (weighted @ Bc).view(b, c, h, p, n)
    carried = from_start[..., -1].exp()[..., None, None]  # [b c h 1 1]
    state = x.new_zeros(b, h, p, n) if state is None else state.float()
    before = []
    for chunk in range(c):
        before.append(state)
        state = carried[:, chunk] * state + added[:, chunk]
    incoming = torch.stack(before, dim=1).view(b, c, g, h // g * p, n)
    read = (Cc @ incoming.transpose(3, 4)).view(b, c, g, q, h // g, p).transpose(3, 4).reshape(b, c, h, q, p)
    y = y + read * from_start.exp()[..., None]
    return y.transpose(2, 3).reshape(b, c * q, h, p), state


def boundaries_in_chunks(document_ids: Tensor, chunks: int, chunk_size: int) -> Tensor:
    """Count document boundaries from the start of each chunk: [b c 1 q]; 0 until the first one.

    A boundary is a position whose id differs from the one before it; the very first position is none. Positions added
    behind the end continue the last document.
    """
    starts = F.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, chunks * chunk_size - document_ids.shape[1]))
    return starts.view(document_ids.shape[0], chunks, 1, chunk_size).cumsum(dim=3)


def cumsum_in_documents(values: Tensor, segment: Tensor) -> Tensor:
    """Running sums over the last axis that start again with every document: [b c h q], [b c 1 q] to [b c h q].

    Doubles the reach of every sum until it covers the chunk. The difference of two plain running sums would have the
    same value, but its gradient would leak rounding errors from one document into another.
    """
    reach, q = 1, values.shape[-1]
    while reach < q:
        same = segment[..., reach:] == segment[..., :-reach]
        values = values + F.pad(values[..., :-reach] * same, (reach, 0))
        reach *= 2
    return values
