"""The SSM recurrence in standard operators: chunks in closed form, without a loop, for any number of tokens.

With a = cumulative sums of dt·A within a chunk of q tokens:

    inside a chunk      Y[i] = Σ_{j ≤ i} (C_i · B_j) exp(a_i - a_j) dt_j x_j
    a chunk's own state S = Σ_j B_j ⊗ exp(a_q - a_j) dt_j x_j
    states at the edges H[c] = Σ_{k ≤ c} exp(e_c - e_k) S[k],  S[0] the state before, e = cumulative sums of a_q
    from earlier chunks Y[i] += exp(a_i) C_i · H[c]

Cost per head: t·q·(n + p) inside chunks and (t/q)²·n·p between them. Source: Dao and Gu, arXiv:2405.21060, listing 1.
Letters: b rows, L tokens, m chunks, q tokens of a chunk, h heads, g groups, r = h / g, n state, p head dim.
"""

from __future__ import annotations

from mamba_slm.export.onnx.graph import GraphWriter
from mamba_slm.model.config import ModelConfig

CHUNK_TOKENS = 64
"""The longest chunk; a shorter piece is one chunk of its own length, so that a single token costs little."""
NEVER = -1e30
"""Logarithm of a decay to 0; finite, so that differences of two stay numbers."""


class StandardScan:
    """The scan of one graph; the sizes of chunks are computed once for all layers."""

    def __init__(self, writer: GraphWriter, config: ModelConfig, *, length: str, steps: str):
        """`length` [] is L, `steps` [L] is 0 … L-1."""
        self.writer = writer
        self.config = config
        op, ints = writer.op, writer.ints
        with writer.scope("chunks"):
            self.chunk = op("Min", length, ints(CHUNK_TOKENS))  # q
            self.count = op("Div", op("Add", length, op("Sub", self.chunk, ints(1))), self.chunk)  # m
            self.length = length
            self.padding = op("Sub", op("Mul", self.count, self.chunk), length)
            self.inside = op("Range", ints(0), self.chunk, ints(1))  # [q]
            self.edges = op("Range", ints(0), op("Add", self.count, ints(1)), ints(1))  # [m + 1]
            self.is_causal = self.not_after(self.inside)  # [q q]
            self.is_earlier = self.not_after(self.edges)  # [m+1 m+1]

    def not_after(self, numbers: str) -> str:
        """[x x] whether the column's number is at most the row's."""
        rows = self.writer.op("Unsqueeze", numbers, self.writer.ints([1]))
        return self.writer.op("GreaterOrEqual", rows, numbers)

    def shape(self, *sizes: int | str) -> str:
        """An int64 vector of constants and scalars."""
        parts = [
            self.writer.ints([size])
            if isinstance(size, int)
            else self.writer.op("Unsqueeze", size, self.writer.ints([0]))
            for size in sizes
        ]
        return self.writer.op("Concat", *parts, axis=0)

    def chunked(self, x: str, *channels: int) -> str:
        """[b L c] to [b m q *channels]; the last chunk is filled with zeros."""
        op = self.writer.op
        filled = op("Pad", x, self.shape(0, 0, 0, 0, self.padding, 0))
        return op("Reshape", filled, self.shape(0, self.count, self.chunk, *channels))

    def decays(self, sums: str, mask: str) -> str:
        """exp(sums_i - sums_j) [... i j] where the mask says so, else 0, from cumulative sums [... i]."""
        op, ints = self.writer.op, self.writer.ints
        differences = op("Sub", op("Unsqueeze", sums, ints([-1])), op("Unsqueeze", sums, ints([-2])))
        return op("Exp", op("Where", mask, differences, self.writer.floats(NEVER)))

    def __call__(self, x: str, log_decay: str, B: str, C: str, *, past: str, present: str) -> str:
        """Scan from the state `past` [b h n p]; the state behind the last token becomes the output `present`.

        Args:
            x: [b L h·p], multiplied by dt; log_decay: [b L h], dt·A; B, C: [b L g·n].

        Returns: [b L h·p].
        """
        c, op, ints = self.config, self.writer.op, self.writer.ints
        h, g, n, p = c.num_ssm_heads, c.num_groups, c.state_size, c.ssm_head_dim
        r = h // g
        x = op("Transpose", self.chunked(x, g, r, p), perm=[0, 1, 3, 4, 2, 5])  # [b m g r q p]
        B = op("Unsqueeze", op("Transpose", self.chunked(B, g, n), perm=[0, 1, 3, 2, 4]), ints([3]))  # [b m g 1 q n]
        C = op("Unsqueeze", op("Transpose", self.chunked(C, g, n), perm=[0, 1, 3, 2, 4]), ints([3]))
        log_decay = op("Transpose", self.chunked(log_decay, g, r), perm=[0, 1, 3, 4, 2])  # [b m g r q]
        sums = op("CumSum", log_decay, ints(4))
        total = op("ReduceSum", log_decay, ints([4]), keepdims=1)  # [b m g r 1]

        B_columns = op("Transpose", B, perm=[0, 1, 2, 3, 5, 4])  # [b m g 1 n q]
        weights = op("Mul", op("MatMul", C, B_columns), self.decays(sums, self.is_causal))  # [b m g r q q]
        inside = op("MatMul", weights, x)
        to_end = op("Unsqueeze", op("Exp", op("Sub", total, sums)), ints([5]))
        own = op("MatMul", B_columns, op("Mul", x, to_end))  # [b m g r n p]

        first = op("Reshape", past, ints([0, 1, h, n * p]))
        own = op("Reshape", own, ints([0, 0, h, n * p]))
        own = op("Transpose", op("Concat", first, own, axis=1), perm=[0, 2, 1, 3])  # [b h m+1 np]
        totals = op("Transpose", op("Reshape", total, ints([0, 0, h])), perm=[0, 2, 1])  # [b h m]
        ends = op("CumSum", op("Pad", totals, ints([0, 0, 1, 0, 0, 0])), ints(2))  # [b h m+1]
        states = op("MatMul", self.decays(ends, self.is_earlier), own)  # [b h m+1 np]
        last = op("Gather", states, self.count, axis=2)
        op("Reshape", last, ints([0, h, n, p]), output=present)

        before = op("Slice", states, ints([0]), op("Unsqueeze", self.count, ints([0])), ints([2]))  # [b h m np]
        before = op("Reshape", op("Transpose", before, perm=[0, 2, 1, 3]), ints([0, 0, g, r, n, p]))
        from_start = op("Unsqueeze", op("Exp", sums), ints([5]))
        outside = op("Mul", op("MatMul", C, before), from_start)
        y = op("Transpose", op("Add", inside, outside), perm=[0, 1, 4, 2, 3, 5])  # [b m q g r p]
        y = op("Reshape", y, ints([0, -1, h * p]))
        return op("Slice", y, ints([0]), op("Unsqueeze", self.length, ints([0])), ints([1]))
