"""The scan's backward kernels. Letters and layouts as in `ssd_kernels`; G is the gradient of the state behind a chunk.

With S = C Bᵀ, V = grad_y xᵀ, L the decays within the chunk, e[i] those from its start and w[j] those to its end:
    grad_x[j]  = dt[j] (Σ_i S L grad_y[i] + w[j] G B[j])
    grad_C     = Z B + e ∘ (grad_y H),   grad_B = Zᵀ C + (w dt) ∘ (x G),   Z = V ∘ L ∘ dt, summed over a group's heads
    direct[j]  = Σ_i (S L V)[i, j] + w[j] x[j]·(G B[j])                   the gradient of dt[j] as a factor
    grad_a[i]  = Σ_j (S L V)[i, j] dt[j] - dt[i] Σ_k (S L V)[k, i] + e[i] grad_y[i]·(H C[i]),  j, k ≠ i
    decay[k]   = Σ_i grad_a[i] + Σ_j w[j] dt[j] x[j]·(G B[j]) + exp(a[q-1]) <G, H>,            i >= k > j
    grad_dt[k] = direct[k] + A decay[k],   grad_A = Σ_k dt[k] decay[k]
Sums over i and j stay within chunk and document. Products of which a decay's gradient is a difference are float32
products of factors as they came, so that they cancel also where x is bfloat16. Everything that is not an input is
computed again; only states are read from memory.
"""

from __future__ import annotations

from mamba_slm.ops.triton.language import dot, jit, narrow, tl
from mamba_slm.ops.triton.ssd_kernels import decays_in_chunk


@jit
def head_gradients(
    x, B, C, dt, A, a, segment, states, grad_states, grad_y, grad_x, grad_dt, grad_A,
    t, heads, p, n, chunks, heads_per_group,
    x_b, x_t, x_h, B_b, B_t, B_g, C_b, C_t, C_g,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """Grid (c, b*h): grad_x [b t h p], grad_dt [b h c*q], and the part of grad_A of every chunk [b h c]."""
    chunk = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    batch, head = row // heads, row % heads
    group = head // heads_per_group
    padded = chunks * Q
    i = tl.arange(0, Q)
    at = chunk * Q + i
    ps = tl.arange(0, P)
    here = at[:, None] < t
    states += (row * chunks + chunk) * p * n
    grad_states += (row * chunks + chunk) * p * n
    products = tl.zeros((Q, Q), dtype=tl.float32)
    read = tl.zeros((Q, P), dtype=tl.float32)
    moved = tl.zeros((Q, P), dtype=tl.float32)
    overlap = tl.zeros((P, N), dtype=tl.float32)
    for start in range(0, n, N):
        ns = start + tl.arange(0, N)
        in_rows = here & (ns[None, :] < n)
        Cq = tl.load(C + batch * C_b + group * C_g + at[:, None] * C_t + ns[None, :], mask=in_rows, other=0.0)
        Bq = tl.load(B + batch * B_b + group * B_g + at[:, None] * B_t + ns[None, :], mask=in_rows, other=0.0)
        in_tile = (ps[:, None] < p) & (ns[None, :] < n)
        state = tl.load(states + ps[:, None] * n + ns[None, :], mask=in_tile, other=0.0)
        grad_state = tl.load(grad_states + ps[:, None] * n + ns[None, :], mask=in_tile, other=0.0)
        products += dot(Cq, tl.trans(Bq))
        read += dot(Cq, tl.trans(state.to(Cq.dtype)))
        moved += dot(Bq, tl.trans(grad_state.to(Bq.dtype)))
        overlap += state.to(tl.float32) * grad_state.to(tl.float32)
    between, from_start, to_end, through = decays_in_chunk(
        a + row * padded, segment + batch * padded, chunk, Q=Q, HAS_DOCUMENTS=HAS_DOCUMENTS
    )
    steps = tl.load(dt + row * padded + at)
    in_rows = here & (ps[None, :] < p)
    dense = ((batch * t + at[:, None]) * heads + head) * p + ps[None, :]
    xq = tl.load(x + batch * x_b + head * x_h + at[:, None] * x_t + ps[None, :], mask=in_rows, other=0.0)
    gq = tl.load(grad_y + dense, mask=in_rows, other=0.0)

    products *= between
    from_inputs = dot(tl.trans(narrow(products, gq.dtype)), gq) + moved * to_end[:, None]
    tl.store(grad_x + dense, narrow(from_inputs * steps[:, None], grad_x.dtype.element_ty), mask=in_rows)

    pairs = products * dot(gq, tl.trans(xq))
    arrived = tl.sum(xq.to(tl.float32) * moved, axis=1) * to_end
    direct = tl.sum(pairs, axis=0) + arrived
    pairs = tl.where(i[:, None] == i[None, :], 0.0, pairs)  # what decays not at all
    grad_a = tl.sum(pairs * steps[None, :], axis=1) - steps * tl.sum(pairs, axis=0)
    grad_a += from_start * tl.sum(gq.to(tl.float32) * read, axis=1)
    later = i[:, None] >= i[None, :]
    grad_decay = tl.sum(tl.where(i[:, None] < i[None, :], (arrived * steps)[:, None], 0.0), axis=0)
    if HAS_DOCUMENTS:
        ids = tl.load(segment + batch * padded + at)
        later = later & (ids[:, None] == ids[None, :])
        id_end = tl.load(segment + batch * padded + chunk * Q + Q - 1)
        grad_decay = tl.where(ids == id_end, grad_decay, 0.0)
    grad_decay += through * tl.sum(overlap) + tl.sum(tl.where(later, grad_a[:, None], 0.0), axis=0)
    tl.store(grad_dt + row * padded + at, direct + tl.load(A + head) * grad_decay)
    tl.store(grad_A + row * chunks + chunk, tl.sum(steps * grad_decay))


@jit
def group_gradients(
    x, B, C, dt, a, segment, states, grad_states, grad_y, grad_B, grad_C,
    t, heads, groups, p, n, chunks, heads_per_group, heads_per_part, rows,
    x_b, x_t, x_h, B_b, B_t, B_g, C_b, C_t, C_g,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """Grid (c, b*g, tiles of n times parts): grad_B and grad_C [parts b t g n], summed over the heads of a part."""
    chunk = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    batch, group = row // groups, row % groups
    tiles = tl.cdiv(n, N)
    ns = tl.program_id(2) % tiles * N + tl.arange(0, N)
    part = tl.program_id(2) // tiles
    padded = chunks * Q
    at = chunk * Q + tl.arange(0, Q)
    ps = tl.arange(0, P)
    here = at[:, None] < t
    in_rows = here & (ps[None, :] < p)
    in_tile = (ps[:, None] < p) & (ns[None, :] < n)
    of_B = tl.zeros((Q, N), dtype=tl.float32)
    of_C = tl.zeros((Q, N), dtype=tl.float32)
    shared = tl.zeros((Q, Q), dtype=tl.float32)
    for number in range(heads_per_part):
        head = group * heads_per_group + part * heads_per_part + number
        line = batch * heads + head
        between, from_start, to_end, _ = decays_in_chunk(
            a + line * padded, segment + batch * padded, chunk, Q=Q, HAS_DOCUMENTS=HAS_DOCUMENTS
        )
        steps = tl.load(dt + line * padded + at)
        xq = tl.load(x + batch * x_b + head * x_h + at[:, None] * x_t + ps[None, :], mask=in_rows, other=0.0)
        dense = ((batch * t + at[:, None]) * heads + head) * p + ps[None, :]
        gq = tl.load(grad_y + dense, mask=in_rows, other=0.0)
        tile = (line * chunks + chunk) * p * n + ps[:, None] * n + ns[None, :]
        state = tl.load(states + tile, mask=in_tile, other=0.0)
        grad_state = tl.load(grad_states + tile, mask=in_tile, other=0.0)
        shared += dot(gq, tl.trans(xq)) * between * steps[None, :]
        of_C += dot(gq, state.to(gq.dtype)) * from_start[:, None]
        of_B += dot(xq, grad_state.to(xq.dtype)) * (to_end * steps)[:, None]
    in_rows = here & (ns[None, :] < n)
    Cq = tl.load(C + batch * C_b + group * C_g + at[:, None] * C_t + ns[None, :], mask=in_rows, other=0.0)
    Bq = tl.load(B + batch * B_b + group * B_g + at[:, None] * B_t + ns[None, :], mask=in_rows, other=0.0)
    of_C += dot(narrow(shared, Bq.dtype), Bq)
    of_B += dot(narrow(tl.trans(shared), Cq.dtype), Cq)
    out = (((part * rows + batch) * t + at[:, None]) * groups + group) * n + ns[None, :]
    tl.store(grad_B + out, narrow(of_B, grad_B.dtype.element_ty), mask=in_rows)
    tl.store(grad_C + out, narrow(of_C, grad_C.dtype.element_ty), mask=in_rows)
