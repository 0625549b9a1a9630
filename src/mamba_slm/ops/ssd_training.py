"""The chunked scan with a backward pass of its own, without a (q, q) matrix per head.

Letters as in `ssd_chunked`, for one group of k heads. The decays scale rows, as in `ssd_forward`: with a constant r per
chunk and head, X = exp(r - a) dt x and R = exp(r) H,
    Y = exp(a - r) (P X + C R),  P = tril(C Bᵀ),     S = R + Bᵀ X,     R' = exp(a[q-1] - r + r') S.
With Ŷ = exp(a - r) grad_Y:
    grad_S = exp(a[q-1] - r + r') grad_R'            grad_R = grad_S + Ŷᵀ C
    grad_X = Pᵀ Ŷ + B grad_Sᵀ                        grad_P = tril(Ŷ Xᵀ)
    grad_B = grad_Pᵀ C + X grad_S                    grad_C = grad_P B + Ŷ R
r cancels, so it has no gradient. The decay at time i scales all that passes from before i to i or later, so the
gradient of its logarithm is a sum over what comes later, up to any point, with the state H' there:
    Σ_{j >= i} (grad_Y[j] · Y[j] - grad_X[j] · X[j]) + grad_H' · H'
Documents mask P, the B that reach S, the C that read R, and the R that goes on; that sum ends with the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.ssd_chunked import cumsum_in_documents

CHUNKS_PER_PIECE = 8
"""Chunks that are computed together; the states between the pieces are saved, those within are computed again."""


def scan_scaled(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, first: Tensor, segment: Tensor | None, q: int
) -> tuple[Tensor, Tensor]:
    """y [b t k p] and the last state [b k p n] of one group in float32; t is a multiple of q, and no decay is steep.

    Args:
        x: [b t k p]; dt: [b t k]; A: [k]; B, C: [b t n]; first: [b k p n].
        segment: [b c 1 q] from `boundaries_in_chunks`, or None.
    """
    return ScanScaled.apply(x, dt, A, B, C, first, segment, q)  # type: ignore[no-any-return]


class ScanScaled(torch.autograd.Function):
    """`scan_scaled`; saves its inputs, its outputs and the states between pieces."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        first: Tensor,
        segment: Tensor | None,
        q: int,
    ) -> tuple[Tensor, Tensor]:
        b, t, k, p = x.shape
        n = B.shape[2]
        factors = row_factors(dt, A, q, segment)
        pieces = pieces_of(t, q)
        R = (first * factors.first[..., None, None]).reshape(b, k * p, n)
        states = x.new_empty(len(pieces), b, k * p, n)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for number, now in enumerate(pieces):
            states[number] = R
            part = Piece(B, C, segment, now, q)
            X = (x[:, now] * factors.before[:, now, :, None]).reshape(b, -1, q, k * p)
            Y = part.products() @ X
            for chunk in range(part.chunks):
                Y[:, chunk].baddbmm_(part.C_first[:, chunk], R.transpose(1, 2))
                part.cut_(R, chunk).baddbmm_(X[:, chunk].transpose(1, 2), part.B_last[:, chunk])
                R.view(b, k, p, n).mul_(factors.onward[:, part.first_chunk + chunk, :, None, None])
            torch.mul(Y.view(b, -1, k, p), factors.after[:, now, :, None], out=y[:, now])
        last = R.view(b, k, p, n)
        ctx.save_for_backward(x, dt, A, B, C, segment, states, y, last)
        ctx.q = q
        return y, last

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_y: Tensor, grad_last: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, None, None]:
        x, dt, A, B, C, segment, states, y, last = ctx.saved_tensors
        q = ctx.q
        b, t, k, p = x.shape
        n = B.shape[2]
        factors = row_factors(dt, A, q, segment)
        pieces = pieces_of(t, q)
        grad_y = grad_y.contiguous()
        grad_x, grad_B, grad_C = torch.empty_like(y), B.new_empty(B.shape), C.new_empty(C.shape)
        grad_before, passed = x.new_empty(b, t, k), x.new_empty(b, t, k)  # `passed` becomes the gradient of dt A
        grad_R = grad_last.reshape(b, k * p, n).clone()
        behind = last.reshape(b, k * p, n)
        for number in reversed(range(len(pieces))):
            now = pieces[number]
            part = Piece(B, C, segment, now, q)
            onward = factors.onward[:, part.first_chunk :, :, None, None]
            X = (x[:, now] * factors.before[:, now, :, None]).reshape(b, -1, q, k * p)
            Y = (grad_y[:, now] * factors.after[:, now, :, None]).reshape(b, -1, q, k * p)  # Ŷ
            R = x.new_empty(b, part.chunks + 1, k * p, n)
            R[:, 0], R[:, -1] = states[number], behind
            behind = states[number]
            for chunk in range(part.chunks - 1):
                R[:, chunk + 1] = R[:, chunk]
                following = part.cut_(R[:, chunk + 1], chunk)
                following.baddbmm_(X[:, chunk].transpose(1, 2), part.B_last[:, chunk])
                following.view(b, k, p, n).mul_(onward[:, chunk])

            reached = x.new_empty(b, part.chunks, k)  # by the state behind each chunk
            grad_X = part.products().transpose(2, 3) @ Y
            grad_products = part.masked_(Y @ X.transpose(2, 3))
            grad_Bm = grad_products.transpose(2, 3) @ part.C
            grad_Cm = part.only_first_(Y @ R[:, :-1]).add_(grad_products @ part.B)
            for chunk in reversed(range(part.chunks)):
                reached[:, chunk] = (grad_R * R[:, chunk + 1]).view(b, k, p * n).sum(dim=2)
                grad_R.view(b, k, p, n).mul_(onward[:, chunk])  # of S
                grad_X[:, chunk].baddbmm_(part.B_last[:, chunk], grad_R.transpose(1, 2))
                grad_Bm[:, chunk] += part.only_last_(X[:, chunk] @ grad_R, chunk)
                part.cut_(grad_R, chunk).baddbmm_(Y[:, chunk].transpose(1, 2), part.C_first[:, chunk])
            grad_B[:, now], grad_C[:, now] = grad_Bm.flatten(1, 2), grad_Cm.flatten(1, 2)

            grad_X = grad_X.view(b, -1, k, p)
            torch.mul(grad_X, factors.before[:, now, :, None], out=grad_x[:, now])
            torch.sum(grad_X.mul_(x[:, now]), dim=3, out=grad_before[:, now])
            torch.sum(grad_y[:, now] * y[:, now], dim=3, out=passed[:, now])
            passed[:, now] -= grad_before[:, now] * factors.before[:, now]
            of_chunks = passed[:, now].unflatten(1, (-1, q))
            of_chunks[:, :, -1] += reached
            of_chunks.copy_(part.sums_to_the_end(of_chunks))
        grad_dt = grad_before.mul_(factors.lift).addcmul_(passed, A)
        grad_first = grad_R.view(b, k, p, n).mul_(factors.first[..., None, None])
        return grad_x, grad_dt, passed.mul_(dt).sum(dim=(0, 1)), grad_B, grad_C, grad_first, None, None


@dataclass(frozen=True, kw_only=True)
class RowFactors:
    """What the decays become."""

    lift: Tensor
    """[b t k] exp(r - a)."""
    before: Tensor
    """[b t k] lift * dt, from x to X."""
    after: Tensor
    """[b t k] exp(a - r), from P X + C R to Y."""
    onward: Tensor
    """[b c k] exp(a[q-1] - r + r'), from S to R of the next chunk; behind the last chunk r' is 0."""
    first: Tensor
    """[b k] exp(r) of the first chunk."""


def row_factors(dt: Tensor, A: Tensor, q: int, segment: Tensor | None) -> RowFactors:
    """The factors for dt [b t k] and A [k], with r half of the sum of dt A over the chunk, or over each segment of it.

    A document's numbers depend on no other document, not even in their rounding.
    """
    log_decay = (dt * A).unflatten(1, (-1, q))  # [b c q k]
    if segment is None:
        a = log_decay.cumsum(dim=2)
        r_first = r_last = a[:, :, -1] / 2
        r = r_first[:, :, None]
    else:
        a = cumsum_in_documents(log_decay.transpose(2, 3), segment).transpose(2, 3)
        index = segment.transpose(2, 3).expand_as(log_decay)
        sums = torch.zeros_like(F.pad(log_decay, (0, 0, 0, 1))).scatter_add_(2, index, log_decay)  # [b c q+1 k]
        r = (sums / 2).gather(2, index)
        r_first, r_last = sums[:, :, 0] / 2, r[:, :, -1]
    onward = a[:, :, -1] - r_last
    onward[:, :-1] += r_first[:, 1:]
    lift = (r - a).exp_().flatten(1, 2)
    return RowFactors(
        lift=lift,
        before=lift * dt,
        after=(a - r).exp_().flatten(1, 2),
        onward=onward.exp_(),
        first=r_first[:, 0].exp(),
    )


def pieces_of(t: int, q: int) -> list[slice]:
    """t positions, a multiple of q, in runs of up to CHUNKS_PER_PIECE chunks."""
    step = q * CHUNKS_PER_PIECE
    return [slice(start, min(start + step, t)) for start in range(0, t, step)]


class Piece:
    """B and C [b m q n] of the m chunks of a piece, and what the documents in them mask."""

    def __init__(self, B: Tensor, C: Tensor, segment: Tensor | None, now: slice, q: int):
        """B, C: [b t n]; segment: [b c 1 q] or None."""
        self.first_chunk, self.chunks = now.start // q, (now.stop - now.start) // q
        self.B, self.C = B[:, now].unflatten(1, (-1, q)), C[:, now].unflatten(1, (-1, q))
        self.B_last, self.C_first = self.B, self.C
        self.segment: Tensor | None = None
        if segment is None:
            return
        self.segment = segment[:, self.first_chunk : self.first_chunk + self.chunks, 0]  # [b m q]
        self.foreign = self.segment[..., :, None] != self.segment[..., None, :]
        self.is_last = (self.segment == self.segment[..., -1:])[..., None]
        self.is_first = (self.segment == 0)[..., None]
        self.goes_on = (self.segment[..., -1] == 0)[..., None, None]  # [b m 1 1]
        self.B_last, self.C_first = self.B * self.is_last, self.C * self.is_first

    def products(self) -> Tensor:
        """P: [b m q q]."""
        return self.masked_(self.C @ self.B.transpose(2, 3))

    def masked_(self, products: Tensor) -> Tensor:
        """Set pairs to 0, in place, that P lacks."""
        products.tril_()
        return products if self.segment is None else products.masked_fill_(self.foreign, 0)

    def cut_(self, state: Tensor, chunk: int) -> Tensor:
        """Set a state [b kp n] to 0, in place, that ends within the chunk."""
        return state if self.segment is None else state.mul_(self.goes_on[:, chunk])

    def only_first_(self, rows: Tensor) -> Tensor:
        """Set rows [b m q n] to 0, in place, that do not see the state before their chunk."""
        return rows if self.segment is None else rows.mul_(self.is_first)

    def only_last_(self, rows: Tensor, chunk: int) -> Tensor:
        """Set rows [b q n] of a chunk to 0, in place, that do not reach the state behind it."""
        return rows if self.segment is None else rows.mul_(self.is_last[:, chunk])

    def sums_to_the_end(self, values: Tensor) -> Tensor:
        """Sums of values [b m q k] from each position to the end of its document in its chunk."""
        values = values.flip(2)
        if self.segment is None:
            return values.cumsum(dim=2).flip(2)
        return cumsum_in_documents(values.transpose(2, 3), self.segment.flip(2)[:, :, None]).transpose(2, 3).flip(2)
