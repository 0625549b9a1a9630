"""The scan's forward kernels, and the one that carries states in both directions.

Letters: b batch, t time, h heads, p head dim, g groups, n state, c chunks, q positions in a chunk.

Formulas of `ssd_chunked`, cut into three kernels:
    chunk_decays     a, the running sum of dt A within chunk and document
    carry_states     one program per head and tile of the state walks along the chunks with its tile in registers; it
                     writes the state before every chunk. Walking backwards it carries gradients of states instead.
    chunk_outputs    one program per chunk and head; (q, q) matrices never leave it
`dt` and `a` are [b h c*q] float32, `segment` [b c*q] counts documents from 0; behind the end dt is 0 and the last
document goes on, so that only x, B, C and y need masks.
Decays are exp of differences, which are masked with -inf before exp, in float32. Factors of products have the dtype
of x, sums are float32.
"""

from __future__ import annotations

from mamba_slm.ops.triton.language import dot, jit, narrow, tl


@jit
def chunk_decays(dt, A, segment, a, heads, padded, Q: tl.constexpr, HAS_DOCUMENTS: tl.constexpr):
    """Grid (c, b*h): a[i] = Σ dt[j] A over j <= i of the same chunk and document."""
    row = tl.program_id(1).to(tl.int64)
    i = tl.arange(0, Q)
    at = tl.program_id(0) * Q + i
    steps = tl.load(dt + row * padded + at) * tl.load(A + row % heads)
    if HAS_DOCUMENTS:
        ids = tl.load(segment + row // heads * padded + at)
        counted = (i[None, :] <= i[:, None]) & (ids[None, :] == ids[:, None])
        sums = tl.sum(tl.where(counted, steps[None, :], 0.0), axis=1)
    else:
        sums = tl.cumsum(steps, 0)
    tl.store(a + row * padded + at, sums)


@jit
def carry_states(
    values, directions, dt, a, segment, first, states, last,
    t, heads, p, n, chunks, heads_per_group,
    values_b, values_t, values_h, directions_b, directions_t, directions_g,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
    HAS_FIRST: tl.constexpr, HAS_DOCUMENTS: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of [p n], b*h): writes states [b h c p n] as they are before, or backwards behind, every chunk.

    Forwards: values x, directions B, H' = exp(a[q-1]) H + Σ_j exp(a[q-1] - a[j]) dt[j] x[j] ⊗ B[j].
    Backwards: values are gradients of y, directions C, G = exp(a[q-1]) G' + Σ_i exp(a[i]) grad_y[i] ⊗ C[i].
    """
    row = tl.program_id(1).to(tl.int64)
    batch, head = row // heads, row % heads
    tiles = tl.cdiv(n, N)
    ps = tl.program_id(0) // tiles * P + tl.arange(0, P)
    ns = tl.program_id(0) % tiles * N + tl.arange(0, N)
    i = tl.arange(0, Q)
    values += batch * values_b + head * values_h
    directions += batch * directions_b + head // heads_per_group * directions_g
    padded = chunks * Q
    a += row * padded
    dt += row * padded
    segment += batch * padded
    tile = ps[:, None] * n + ns[None, :]
    in_tile = (ps[:, None] < p) & (ns[None, :] < n)
    if HAS_FIRST:
        state = tl.load(first + row * p * n + tile, mask=in_tile, other=0.0)
    else:
        state = tl.zeros((P, N), dtype=tl.float32)
    for step in range(chunks):
        chunk = chunks - 1 - step if BACKWARD else step
        tl.store(states + (row * chunks + chunk) * p * n + tile, narrow(state, states.dtype.element_ty), mask=in_tile)
        at = chunk * Q + i
        decay = tl.load(a + at)
        end = tl.load(a + chunk * Q + Q - 1)
        exponent = decay if BACKWARD else end - decay
        carried = tl.exp(end)
        if HAS_DOCUMENTS:
            ids = tl.load(segment + at)
            id_before = tl.load(segment + tl.maximum(chunk * Q - 1, 0))
            id_end = tl.load(segment + chunk * Q + Q - 1)
            exponent = tl.where(ids == (id_before if BACKWARD else id_end), exponent, float("-inf"))
            carried = tl.where(id_before == id_end, carried, 0.0)
        weight = tl.exp(exponent)
        if not BACKWARD:
            weight *= tl.load(dt + at)
        here = at[:, None] < t
        v = tl.load(values + at[:, None] * values_t + ps[None, :], mask=here & (ps[None, :] < p), other=0.0)
        d = tl.load(directions + at[:, None] * directions_t + ns[None, :], mask=here & (ns[None, :] < n), other=0.0)
        weighted = narrow(v.to(tl.float32) * weight[:, None], v.dtype)
        state = state * carried + dot(tl.trans(weighted), d)
    tl.store(last + row * p * n + tile, state, mask=in_tile)


@jit
def decays_in_chunk(a, segment, chunk, Q: tl.constexpr, HAS_DOCUMENTS: tl.constexpr):
    """Of one head and chunk: exp(a[i] - a[j]) where i may read j, else 0 [q q]; exp(a[i]) of what arrives from before
    the chunk, exp(a[q-1] - a[j]) of what reaches its end [q]; and the exp(a[q-1]) that passes through."""
    i = tl.arange(0, Q)
    decay = tl.load(a + chunk * Q + i)
    end = tl.load(a + chunk * Q + Q - 1)
    allowed = i[None, :] <= i[:, None]
    from_start = decay
    to_end = end - decay
    through = tl.exp(end)
    if HAS_DOCUMENTS:
        ids = tl.load(segment + chunk * Q + i)
        id_before = tl.load(segment + tl.maximum(chunk * Q - 1, 0))
        id_end = tl.load(segment + chunk * Q + Q - 1)
        allowed = allowed & (ids[None, :] == ids[:, None])
        from_start = tl.where(ids == id_before, from_start, float("-inf"))
        to_end = tl.where(ids == id_end, to_end, float("-inf"))
        through = tl.where(id_before == id_end, through, 0.0)
    between = tl.exp(tl.where(allowed, decay[:, None] - decay[None, :], float("-inf")))
    return between, tl.exp(from_start), tl.exp(to_end), through


@jit
def chunk_outputs(
    x, B, C, dt, a, segment, states, y,
    t, heads, p, n, chunks, heads_per_group,
    x_b, x_t, x_h, B_b, B_t, B_g, C_b, C_t, C_g,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):  # fmt: skip
    """Grid (c, b*h): y = ((C Bᵀ) ∘ decays) (dt x) + exp(a) C H, H the state before the chunk; y is [b t h p] dense."""
    chunk = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    batch, head = row // heads, row % heads
    group = head // heads_per_group
    padded = chunks * Q
    at = chunk * Q + tl.arange(0, Q)
    ps = tl.arange(0, P)
    here = at[:, None] < t
    states += (row * chunks + chunk) * p * n
    products = tl.zeros((Q, Q), dtype=tl.float32)
    read = tl.zeros((Q, P), dtype=tl.float32)
    for start in range(0, n, N):
        ns = start + tl.arange(0, N)
        in_rows = here & (ns[None, :] < n)
        Cq = tl.load(C + batch * C_b + group * C_g + at[:, None] * C_t + ns[None, :], mask=in_rows, other=0.0)
        Bq = tl.load(B + batch * B_b + group * B_g + at[:, None] * B_t + ns[None, :], mask=in_rows, other=0.0)
        in_tile = (ps[:, None] < p) & (ns[None, :] < n)
        state = tl.load(states + ps[:, None] * n + ns[None, :], mask=in_tile, other=0.0)
        products += dot(Cq, tl.trans(Bq))
        read += dot(Cq, tl.trans(state.to(Cq.dtype)))
    between, from_start, _, _ = decays_in_chunk(
        a + row * padded, segment + batch * padded, chunk, Q=Q, HAS_DOCUMENTS=HAS_DOCUMENTS
    )
    steps = tl.load(dt + row * padded + at)
    in_rows = here & (ps[None, :] < p)
    xq = tl.load(x + batch * x_b + head * x_h + at[:, None] * x_t + ps[None, :], mask=in_rows, other=0.0)
    inside = narrow(products * between * steps[None, :], xq.dtype)
    result = dot(inside, xq) + read * from_start[:, None]
    out = y + ((batch * t + at[:, None]) * heads + head) * p + ps[None, :]
    tl.store(out, narrow(result, y.dtype.element_ty), mask=in_rows)
