"""The scan for CPUs: it chooses, head by head, between scaled rows (`ssd_forward`, `ssd_training`) and, where a head
decays too steeply for those, chunks with a matrix of decays per head, which are here.

`ScanChunks` has a backward pass of its own: it saves its inputs and the states between chunks, and computes the rest
again. Same formulas and letters as `ssd_chunked`. Differences that make it faster:
- heads stay where the projections put them, [.. q h p]: products over one head read and write strided slices, so that
  nothing is transposed in memory;
- the large (q, q) matrices of each head are made in place and never saved;
- sums over q, p and heads that only the gradients of dt need are taken from products that are there anyway.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.shapes import check_shapes
from mamba_slm.ops.ssd_chunked import DEFAULT_CHUNK_SIZE, boundaries_in_chunks, cumsum_in_documents
from mamba_slm.ops.ssd_forward import FORWARD_CHUNK_SIZE, STEEPEST, scan_forward
from mamba_slm.ops.ssd_training import scan_scaled


def ssd_recompute(
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
    """Same arguments and results as `ssd_reference`; computes in float32 whatever the dtype of x.

    Where nothing needs a gradient and there are no documents, it is `scan_forward`; otherwise `scan_scaled`, and only
    heads too steep for that are scanned in chunks of `chunk_size`. Gradients of gradients are not supported.
    """
    size = check_shapes(x=(x, "b t h p"), dt=(dt, "b t h"), A=(A, "h"), B=(B, "b t g n"), C=(C, "b t g n"))
    with torch.autocast(x.device.type, enabled=False):
        x32, dt32, A32, B32, C32 = x.float(), dt.float(), A.float(), B.float(), C.float()
        if document_ids is None and not differentiable(x, dt, A, B, C, state):
            y, last = scan_forward(x32, dt32, A32, B32, C32, state)
            return y.to(x.dtype), last
        first = x32.new_zeros(size["b"], size["h"], size["p"], size["n"]) if state is None else state.float()
        y, last = scan_by_steepness(x32, dt32, A32, B32, C32, first, document_ids, chunk_size)
    return y.to(x.dtype), last


def scan_by_steepness(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, first: Tensor, document_ids: Tensor | None, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Every group's gentle heads by `scan_gentle`, its steep ones by `scan_steep`, all in float32."""
    h, g = x.shape[2], B.shape[2]
    steep = heads_too_steep(dt, A)
    order: list[int] = []
    results: list[tuple[Tensor, Tensor]] = []
    for group in range(g):
        of_group = range(group * h // g, (group + 1) * h // g)
        Bg, Cg = B[:, :, group : group + 1], C[:, :, group : group + 1]
        for scan, is_meant in ((scan_gentle, False), (scan_steep, True)):
            heads = [head for head in of_group if (head in steep) is is_meant]
            if heads:
                picked = slice(heads[0], heads[-1] + 1) if len(heads) == len(of_group) else heads  # a slice is no copy
                results.append(
                    scan(
                        x[:, :, picked], dt[:, :, picked], A[picked], Bg, Cg, first[:, picked], document_ids, chunk_size
                    )
                )
                order += heads
    if len(results) == 1:
        return results[0]
    y, last = torch.cat([y for y, _ in results], dim=2), torch.cat([last for _, last in results], dim=1)
    if order == sorted(order):
        return y, last
    back = torch.tensor(order, device=x.device).argsort()
    return y[:, :, back], last[:, back]


@torch.no_grad()
def heads_too_steep(dt: Tensor, A: Tensor) -> set[int]:
    """Heads that decay by more than STEEPEST in some chunk of `scan_scaled`."""
    q = min(FORWARD_CHUNK_SIZE, dt.shape[1])
    sums = F.pad(dt, (0, 0, 0, -dt.shape[1] % q)).unflatten(1, (-1, q)).sum(dim=2).mul_(A).abs_()  # [b c h]
    return set((sums.amax(dim=(0, 1)) > STEEPEST).nonzero()[:, 0].tolist())


def scan_gentle(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, first: Tensor, document_ids: Tensor | None, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """`scan_scaled` of any length; it has a chunk size of its own."""
    t = x.shape[1]
    q = min(FORWARD_CHUNK_SIZE, t)
    x, dt, B, C = whole_chunks(x, dt, B, C, q)
    segment = None if document_ids is None else boundaries_in_chunks(document_ids, x.shape[1] // q, q)
    y, last = scan_scaled(x, dt, A, B[:, :, 0], C[:, :, 0], first, segment, q)
    return y[:, :t], last


def scan_steep(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, first: Tensor, document_ids: Tensor | None, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """`ScanChunks` of any length."""
    b, t, h, _ = x.shape
    q = min(chunk_size, t)
    x, dt, B, C = whole_chunks(x, dt, B, C, q)
    c = x.shape[1] // q
    log_decay = (dt * A).view(b, c, q, h).transpose(2, 3)  # [b c h q]
    segment = None if document_ids is None else boundaries_in_chunks(document_ids, c, q)
    a = log_decay.cumsum(dim=3) if segment is None else cumsum_in_documents(log_decay, segment)
    y, last = ScanChunks.apply(x, dt, a, B, C, first, segment)
    return y[:, :t], last


def whole_chunks(x: Tensor, dt: Tensor, B: Tensor, C: Tensor, q: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All with zeros behind the end up to a multiple of q positions; dt = 0 has no effect."""
    remainder = -x.shape[1] % q
    if not remainder:
        return x, dt, B, C
    x, dt, B, C = (F.pad(m, (0, 0) * (m.dim() - 2) + (0, remainder)) for m in (x, dt, B, C))
    return x, dt, B, C


def differentiable(*inputs: Tensor | None) -> bool:
    """Whether a backward pass may come."""
    return torch.is_grad_enabled() and any(m is not None and m.requires_grad for m in inputs)


def decays(a: Tensor, segment: Tensor | None) -> tuple[Tensor, Tensor]:
    """What reaches the end of the chunk, and what arrives from its start: exp of [b c h q], both masked by document."""
    to_end = a[..., -1:] - a
    if segment is None:
        return to_end.exp_(), a.exp()
    to_end.masked_fill_(segment != segment[..., -1:], -torch.inf)
    return to_end.exp_(), a.masked_fill(segment > 0, -torch.inf).exp_()


def decay_between(a: Tensor, head: int, allowed: Tensor) -> Tensor:
    """exp(a[i] - a[j]) of one head where `allowed`, else 0: [b*c q q]."""
    of_head = a[:, :, head].flatten(0, 1)  # [b*c q]
    return (of_head[:, :, None] - of_head[:, None, :]).masked_fill_(~allowed, -torch.inf).exp_()


def allowed_pairs(segment: Tensor | None, q: int, device: torch.device) -> Tensor:
    """Who adds to whom within a chunk: [1 or b*c, q q] booleans."""
    causal = torch.ones(1, q, q, dtype=torch.bool, device=device).tril_()
    if segment is None:
        return causal
    flat = segment.reshape(-1, q)
    return causal & (flat[:, :, None] == flat[:, None, :])


class ScanChunks(torch.autograd.Function):
    """x [b t h p], dt [b t h], a [b c h q], B and C [b t g n], first state [b h p n] to y and the last state."""

    @staticmethod
    def forward(ctx, x, dt, a, B, C, first, segment):  # type: ignore[override]
        b, t, h, p = x.shape
        c, q = a.shape[1], a.shape[3]
        g, n = B.shape[2:]
        allowed = allowed_pairs(segment, q, x.device)
        to_end, from_start = decays(a, segment)
        xdt = (x * dt[..., None]).view(b * c, q, h, p)
        Bc, Cc = B.reshape(b * c, q, g, n), C.reshape(b * c, q, g, n)

        weighted = xdt * to_end.transpose(2, 3).reshape(b * c, q, h)[..., None]
        added = outer_by_group(weighted, Bc).reshape(b, c, h, p, n)
        carried = from_start[..., -1]
        incoming = torch.empty_like(added)
        state = first
        for chunk in range(c):
            incoming[:, chunk] = state
            state = torch.addcmul(added[:, chunk], carried[:, chunk, :, None, None], state)
        incoming = incoming.view(b * c, h, p, n)

        y = read_by_group(incoming, Cc).mul_(from_start.transpose(2, 3).reshape(b * c, q, h)[..., None])
        inside = torch.empty(b * c, q, p, dtype=x.dtype, device=x.device)
        for group in range(g):
            products = Cc[:, :, group] @ Bc[:, :, group].transpose(1, 2)  # [b*c q q]
            for head in range(group * h // g, (group + 1) * h // g):
                torch.bmm(decay_between(a, head, allowed).mul_(products), xdt[:, :, head], out=inside)
                y[:, :, head] += inside
        ctx.save_for_backward(x, dt, a, B, C, incoming)
        ctx.segment = segment
        return y.reshape(b, t, h, p), state

    @staticmethod
    def backward(ctx, grad_y, grad_last):  # type: ignore[override]
        x, dt, a, B, C, incoming = ctx.saved_tensors
        b, t, h, p = x.shape
        c, q = a.shape[1], a.shape[3]
        g, n = B.shape[2:]
        allowed = allowed_pairs(ctx.segment, q, x.device)
        to_end, from_start = decays(a, ctx.segment)
        end_weight = to_end.transpose(2, 3).reshape(b * c, q, h)
        start_weight = from_start.transpose(2, 3).reshape(b * c, q, h)
        xdt = (x * dt[..., None]).view(b * c, q, h, p)
        Bc, Cc = B.reshape(b * c, q, g, n), C.reshape(b * c, q, g, n)
        gy = grad_y.reshape(b * c, q, h, p)

        # what was read from the incoming states
        grad_read = gy * start_weight[..., None]
        grad_C = apply_by_group(incoming, grad_read, g)  # [b*c q g n]
        grad_state = outer_by_group(grad_read, Cc).reshape(b, c, h, p, n)
        read = read_by_group(incoming, Cc)
        grad_a = (read.mul_(grad_read)).sum(dim=3)  # [b*c q h]
        # through the carried states, last chunk first
        carried = from_start[..., -1]
        states = incoming.view(b, c, h, p, n)
        grad_added = torch.empty_like(states)
        grad_carried = torch.empty_like(carried)
        running = torch.zeros_like(states[:, 0]) if grad_last is None else grad_last
        for chunk in reversed(range(c)):
            grad_added[:, chunk] = running
            grad_carried[:, chunk] = (running * states[:, chunk]).sum(dim=(2, 3))
            running = torch.addcmul(grad_state[:, chunk], carried[:, chunk, :, None, None], running)
        at_end = (grad_carried * carried).view(b * c, h)
        # what was added to the outgoing states
        flat_added = grad_added.view(b * c, h, p, n)
        grad_xdt = read_by_group(flat_added, Bc).mul_(end_weight[..., None])  # of weighted, times its weight
        moved = (grad_xdt * xdt).sum(dim=3)  # [b*c q h]
        grad_a -= moved
        at_end = at_end + moved.sum(dim=1)
        grad_B = apply_by_group(flat_added, xdt * end_weight[..., None], g)
        grad_a[:, -1] += at_end
        # within the chunks
        for group in range(g):
            Bg, Cg = Bc[:, :, group], Cc[:, :, group]
            products = Cg @ Bg.transpose(1, 2)
            grad_products = torch.zeros_like(products)
            for head in range(group * h // g, (group + 1) * h // g):
                decay = decay_between(a, head, allowed)
                grad_inside = gy[:, :, head] @ xdt[:, :, head].transpose(1, 2)  # [b*c q q]
                grad_products += grad_inside.mul_(decay)
                decay.mul_(products)
                grad_xdt[:, :, head] += decay.transpose(1, 2) @ gy[:, :, head]
                pairs = grad_inside.mul_(products)
                grad_a[:, :, head] += pairs.sum(dim=2) - pairs.sum(dim=1)
            grad_C[:, :, group] += grad_products @ Bg
            grad_B[:, :, group] += grad_products.transpose(1, 2) @ Cg
        grad_xdt = grad_xdt.reshape(b, t, h, p)
        grad_dt = (grad_xdt * x).sum(dim=3)
        grad_x = grad_xdt.mul_(dt[..., None])
        grad_a = grad_a.view(b, c, q, h).transpose(2, 3)
        return grad_x, grad_dt, grad_a, grad_B.reshape(B.shape), grad_C.reshape(C.shape), running, None


def outer_by_group(values: Tensor, directions: Tensor) -> Tensor:
    """Σ_i values[i] ⊗ directions[i]: [m q h p], [m q g n] to [m h p n]."""
    m, q, h, p = values.shape
    g, n = directions.shape[2:]
    if g == 1:
        return torch.bmm(values.reshape(m, q, h * p).transpose(1, 2), directions[:, :, 0]).view(m, h, p, n)
    grouped = values.reshape(m, q, g, h // g * p).permute(0, 2, 3, 1)
    return (grouped @ directions.transpose(1, 2)).reshape(m, h, p, n)


def read_by_group(states: Tensor, directions: Tensor) -> Tensor:
    """directions[i] · states over n: [m h p n], [m q g n] to [m q h p]."""
    m, h, p, n = states.shape
    q, g = directions.shape[1:3]
    if g == 1:
        return torch.bmm(directions[:, :, 0], states.reshape(m, h * p, n).transpose(1, 2)).view(m, q, h, p)
    grouped = directions.transpose(1, 2) @ states.reshape(m, g, h // g * p, n).transpose(2, 3)  # [m g q hp]
    return grouped.transpose(1, 2).reshape(m, q, h, p)


def apply_by_group(states: Tensor, values: Tensor, groups: int) -> Tensor:
    """Σ over the heads of each group and p of values · states: [m h p n], [m q h p] to [m q g n]."""
    m, h, p, n = states.shape
    q = values.shape[1]
    if groups == 1:
        return torch.bmm(values.reshape(m, q, h * p), states.reshape(m, h * p, n)).view(m, q, 1, n)
    grouped = values.reshape(m, q, groups, h // groups * p).transpose(1, 2)
    return (grouped @ states.reshape(m, groups, h // groups * p, n)).transpose(1, 2).contiguous()
