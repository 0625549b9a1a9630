"""The chunked scan without gradients: one state that moves along the sequence, and one product for all heads.

Letters as in `ssd_chunked`; m chunks at once, k heads of one group.

Within a chunk, exp(a[i] - a[j]) is exp(a[i] - r) exp(r - a[j]) for any r. So the decays need no (q, q) matrix per head:
they scale the rows of x before, and the rows of y behind, products that all heads of a group share:
    X = exp(r - a) dt x,   R = exp(r) H
    Y = exp(a - r) (tril(C Bᵀ) X + C R)
    H' = exp(a[q-1] - r) (R + Bᵀ X)
With r half of the chunk's last a, both factors stay within exp(±STEEPEST / 2), which loses nothing in float32: each is
as exact as exp of the difference. A head whose decay in some chunk is steeper is left out of X, and gets its own matrix
of differences, as in `ssd_chunked`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FORWARD_CHUNK_SIZE = 32
"""Positions per chunk, whatever the config says: the function does not depend on it. 32 and 64 are equally fast where
heads are gentle (head dim 64, state 128, one core), and over 32 positions fewer heads are steep: none of a new model.
"""
STEEPEST = 80.0
"""Largest |Σ dt A| over a chunk that is split into two factors; exp(-80) is still a normal float32."""
VANISHED = -110.0
"""dt A of one step below which exp is 0 in float32; smaller values would only cost the sums their last digits."""
CHUNKS_AT_ONCE = 8
"""Chunks of a single row that share their calls: fewer calls, and what they pass on stays in the cache."""


def scan_forward(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Arguments and results of `ssd_reference` in float32, without documents; nothing here can be differentiated."""
    b, t, h, p = x.shape
    g, n = B.shape[2:]
    q = min(FORWARD_CHUNK_SIZE, t)
    a = F.pad((dt * A).clamp_(min=VANISHED), (0, 0, 0, -t % q)).view(b, -1, q, h).cumsum(dim=2)  # [b c q h]
    end = a[:, :, -1]  # [b c h]
    is_steep = end.amin(dim=(0, 1)) < -STEEPEST  # [h]
    reference = (end / 2).masked_fill_(is_steep, 0)
    after = (a - reference[:, :, None]).exp_().flatten(1, 2)  # [b cq h]
    before = (reference[:, :, None] - a).masked_fill_(is_steep, -torch.inf).exp_().flatten(1, 2)[:, :t].mul_(dt)
    onward = end - reference  # from the scale of this chunk to that of the next one
    onward[:, :-1] += reference[:, 1:]
    onward.exp_()
    y = x.new_empty(b, t, h, p)
    first = reference[:, 0, :, None, None].exp()
    scaled = x.new_zeros(b, h, p, n) if state is None else state.float() * first  # R, and in the end the last state
    a = a.flatten(1, 2)
    for group in range(g):
        heads = slice(group * h // g, (group + 1) * h // g)
        steep = is_steep[heads].nonzero()[:, 0]
        for start, stop, length in pieces(b, t, q):
            now = slice(start, stop)
            scan_piece(
                x[:, now, heads],
                before[:, now, heads],
                after[:, now, heads],
                onward[:, start // q :, heads],
                B[:, now, group],
                C[:, now, group],
                scaled[:, heads],
                y[:, now, heads],
                length,
                (steep, dt[:, now, heads], a[:, now, heads]) if len(steep) else None,
            )
    return y, scaled


def pieces(rows: int, t: int, q: int) -> list[tuple[int, int, int]]:
    """Start, stop and chunk length of what is computed at once: chunks of one row, or one chunk of many rows."""
    whole = t // q * q
    step = q * CHUNKS_AT_ONCE if rows == 1 else q
    found = [(start, min(start + step, whole), q) for start in range(0, whole, step)]
    return found if whole == t else [*found, (whole, t, t - whole)]


def scan_piece(
    x: Tensor,
    before: Tensor,
    after: Tensor,
    onward: Tensor,
    B: Tensor,
    C: Tensor,
    scaled: Tensor,
    y: Tensor,
    q: int,
    steep: tuple[Tensor, Tensor, Tensor] | None,
) -> None:
    """Some chunks of q positions of one group: writes y and moves the scaled state on.

    Args:
        x: [b t k p]; before, after: [b t k] factors of X and Y; onward: [b c k] factors of the state behind each chunk.
        B, C: [b t n]; scaled: [b k p n] the state R; y: [b t k p].
        steep: which heads are left out of X, and dt and a [b t k] of all; None where there is none.
    """
    b, _, k, p = x.shape
    n = B.shape[2]
    Bm, Cm, ym = B.reshape(-1, q, n), C.reshape(-1, q, n), y.view(-1, q, k * p)  # [m q ...]
    X = (x * before[..., None]).view(-1, q, k * p)
    products = torch.bmm(Cm, Bm.transpose(1, 2)).tril_()
    torch.bmm(products, X, out=ym)
    added = None
    if steep is not None:
        which, dt, a = steep
        inside, added = steep_heads(
            (x[:, :, which] * dt[:, :, which, None]).view(-1, q, len(which), p), a[:, :, which], products, Bm
        )
    flat = scaled.view(b, k * p, n)
    for chunk in range(len(ym) // b):
        of_chunk = slice(chunk * b, (chunk + 1) * b)  # b is 1, or there is one chunk
        ym[of_chunk].baddbmm_(Cm[of_chunk], flat.transpose(1, 2))
        flat.baddbmm_(X[of_chunk].transpose(1, 2), Bm[of_chunk])
        scaled.mul_(onward[:, chunk, :, None, None])
        if added is not None:
            scaled.index_add_(1, which, added[of_chunk])
    y.mul_(after[..., None])
    if steep is not None:
        y.index_add_(2, which, inside.reshape(b, -1, len(which), p))


def steep_heads(xdt: Tensor, a: Tensor, products: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """What some heads read within their chunks and add to the state behind it, from differences of a.

    Args:
        xdt: [m q k p]; a: [.. k]; products: [m q q] lower triangles; B: [m q n].

    Returns:
        [m q k p] and [m k p n].
    """
    m, q, k, p = xdt.shape
    a = a.reshape(m, q, k).transpose(1, 2)  # [m k q]
    causal = torch.ones(q, q, dtype=torch.bool, device=a.device).tril_()
    decay = (a[..., :, None] - a[..., None, :]).masked_fill_(~causal, -torch.inf).exp_()
    inside = (decay.mul_(products[:, None]) @ xdt.transpose(1, 2)).transpose(1, 2)
    weighted = xdt * (a[..., -1:] - a).exp_().transpose(1, 2)[..., None]
    return inside, torch.bmm(weighted.view(m, q, k * p).transpose(1, 2), B).view(m, k, p, B.shape[2])
