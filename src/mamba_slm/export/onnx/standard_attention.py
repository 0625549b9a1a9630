"""Attention in standard operators: every kind of position, window and padding, any number of rows.

Letters: b rows, L new tokens, T key slots, P earlier slots, h heads, k key-value heads, r = h / k, d head dim.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mamba_slm.export.onnx.lowering import SharedLowering, rotary_tables
from mamba_slm.ops.attention import alibi_slopes

HIDDEN = -1e30
"""Score of a key that may not be seen: far below any other, and finite, because inf - inf is not a number."""


class StandardAttention:
    """The attention of one graph. What all its layers share is computed once."""

    def __init__(self, lowering: SharedLowering):
        self.lowering = lowering
        self.config = lowering.config
        self.writer = lowering.writer

    def __call__(self, qkv: str, *, layer: int) -> str:
        """q, k and v side by side, [b L (h + 2k) d], to [b L h·d]; appends to the layer's keys and values."""
        c, op, ints = self.config, self.writer.op, self.writer.ints
        q, k, v = self.writer.split(qkv, [c.hidden_size, *[c.num_kv_heads * c.head_dim] * 2])
        q, k, v = self.heads(q, c.num_heads), self.heads(k, c.num_kv_heads), self.heads(v, c.num_kv_heads)
        if c.position == "rope":
            q, k = self.rotated(q), self.rotated(k)
        states = self.lowering.states
        keys = self.appended(k, states[f"past_key_values.{layer}.key"].past, f"present.{layer}.key")
        values = self.appended(v, states[f"past_key_values.{layer}.value"].past, f"present.{layer}.value")

        repeats = c.num_heads // c.num_kv_heads
        grouped = op("Reshape", q, ints([0, c.num_kv_heads, -1, c.head_dim]))  # [b k rL d]
        scores = op("MatMul", grouped, op("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = op("Mul", scores, self.writer.floats(c.head_dim**-0.5))
        by_head = op("Concat", ints([0, c.num_kv_heads, repeats]), self.new_length, ints([-1]), axis=0)
        scores = op("Reshape", scores, by_head)  # [b k r L T]
        if c.position == "alibi":
            scores = op("Add", scores, self.alibi)
        scores = op("Where", self.is_visible, scores, self.writer.floats(HIDDEN))
        weights = op("Softmax", scores, axis=-1)
        flat = op("Concat", ints([0, c.num_kv_heads, -1]), self.lowering.total, axis=0)
        mixed = op("MatMul", op("Reshape", weights, flat), values)  # [b k rL d]
        by_row = op("Concat", ints([0, c.num_heads]), self.new_length, ints([c.head_dim]), axis=0)
        mixed = op("Transpose", op("Reshape", mixed, by_row), perm=[0, 2, 1, 3])
        return op("Reshape", mixed, ints([0, 0, c.hidden_size]))

    def heads(self, x: str, count: int) -> str:
        """[b L count·d] to [b count L d]."""
        shaped = self.writer.op("Reshape", x, self.writer.ints([0, 0, count, self.config.head_dim]))
        return self.writer.op("Transpose", shaped, perm=[0, 2, 1, 3])

    def rotated(self, x: str) -> str:
        """[b heads L d]: channel i pairs with channel i + d / 2."""
        op, half = self.writer.op, self.config.head_dim // 2
        cos, sin = self.rotations
        first, second = self.writer.split(x, [half, half])
        left = op("Sub", op("Mul", first, cos), op("Mul", second, sin))
        right = op("Add", op("Mul", second, cos), op("Mul", first, sin))
        return op("Concat", left, right, axis=-1)

    def appended(self, new: str, past: str, present: str) -> str:
        """Earlier keys or values and the new ones, each row without gaps: [b k T d] as the output `present`."""
        both = self.writer.op("Concat", past, new, axis=2)
        return self.writer.op("GatherND", both, self.slots, batch_dims=2, output=present)

    @cached_property
    def new_length(self) -> str:
        """[1] L."""
        return self.writer.op("Unsqueeze", self.lowering.length, self.writer.ints([0]))

    @cached_property
    def slot_numbers(self) -> str:
        """[T] 0 … T-1."""
        total = self.writer.op("Squeeze", self.lowering.total)
        return self.writer.op("Range", self.writer.ints(0), total, self.writer.ints(1))

    @cached_property
    def slots(self) -> str:
        """[b k T 1] where in (P earlier slots, L new ones) the slot of the result comes from."""
        op, ints = self.writer.op, self.writer.ints
        padding = op("Sub", op("Sub", self.lowering.total, self.new_length), self.lowering.num_before)  # [b 1]
        is_old = op("Less", self.slot_numbers, self.lowering.num_before)  # [b T]
        source = op("Where", is_old, self.slot_numbers, op("Add", self.slot_numbers, padding))
        source = op("Min", source, op("Sub", self.lowering.total, ints(1)))
        source = op("Unsqueeze", source, ints([1, 3]))
        return op("Expand", source, ints([1, self.config.num_kv_heads, 1, 1]))

    @cached_property
    def distances(self) -> str:
        """[b 1 1 L T] how many positions a key lies before a query; negative behind it."""
        op, ints = self.writer.op, self.writer.ints
        positions = op("Add", self.lowering.steps, self.lowering.num_before)  # [b L]
        between = op("Sub", op("Unsqueeze", positions, ints([2])), self.slot_numbers)
        return op("Unsqueeze", between, ints([1, 2]))

    @cached_property
    def is_visible(self) -> str:
        """[b 1 1 L T] whether a query sees a key: it is not behind the query, nor too far before it."""
        op, ints, window = self.writer.op, self.writer.ints, self.config.attention_window
        visible = op("GreaterOrEqual", self.distances, ints(0))
        return op("And", visible, op("Less", self.distances, ints(window))) if window else visible

    @cached_property
    def alibi(self) -> str:
        """[b k r L T] -slope · distance."""
        slopes = -alibi_slopes(self.config.num_heads).numpy().reshape(1, self.config.num_kv_heads, -1, 1, 1)
        distances = self.writer.op("Cast", self.distances, to=self.writer.onnx.TensorProto.FLOAT)
        return self.writer.op("Mul", distances, self.writer.constant(slopes.astype(np.float32)))

    @cached_property
    def rotations(self) -> tuple[str, str]:
        """cos and sin of the new tokens' positions, [b 1 L d / 2]."""
        op, positions = self.writer.op, self.lowering.positions()
        cos, sin = (
            op("Unsqueeze", op("Gather", self.writer.initializer(name, table), positions), self.writer.ints([1]))
            for name, table in zip(("rotary.cos", "rotary.sin"), rotary_tables(self.config), strict=True)
        )
        return cos, sin
