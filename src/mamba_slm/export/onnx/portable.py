"""The lowering to standard operators only: any runtime with the operator set. Letters as in `description`."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mamba_slm.export.onnx.lowering import SharedLowering
from mamba_slm.export.onnx.standard_attention import StandardAttention
from mamba_slm.export.onnx.standard_scan import StandardScan

OPSET, IR_VERSION = 18, 8
QUANTIZED_OPSET, QUANTIZED_IR_VERSION = 21, 10
"""Blocks of DequantizeLinear, and 4-bit tensors, came with operator set 21."""


class PortableLowering(SharedLowering):
    """Loop-free, with free numbers of rows and tokens."""

    @cached_property
    def attention_of(self) -> StandardAttention:
        """What all attention layers share."""
        return StandardAttention(self)

    @cached_property
    def scan_of(self) -> StandardScan:
        """What all scans share."""
        return StandardScan(self.writer, self.config, length=self.length, steps=self.steps)

    def add_and_norm(self, stream: str, change: str | None, weight: str, *, residual: str) -> tuple[str, str]:
        """A sum, and five nodes for the norm."""
        if change is None:
            self.writer.op("Identity", stream, output=residual)
        else:
            self.writer.op("Add", stream, change, output=residual)
        return residual, self.writer.op("Mul", self.normalized(residual), self.vector(weight))

    def normalized(self, x: str) -> str:
        """x / sqrt(mean(x²) + eps) over the last axis."""
        op = self.writer.op
        mean = op("ReduceMean", op("Mul", x, x), self.writer.ints([-1]), keepdims=1)
        return op("Div", x, op("Sqrt", op("Add", mean, self.writer.floats(self.config.norm_eps))))

    def silu(self, x: str) -> str:
        """x sigmoid(x)."""
        return self.writer.op("Mul", x, self.writer.op("Sigmoid", x))

    def conv(self, xBC: str, *, layer: int, tensors: str) -> str:
        """A sum over the taps of shifted slices; a depthwise Conv is slower on CPUs, and wants channels first."""
        op, ints, past = self.writer.op, self.writer.ints, self.states[f"past_conv.{layer}"]
        both = op("Concat", past.past, xBC, axis=1)
        weight, taps = self.tensors[f"{tensors}.conv_weight"], self.config.conv_kernel
        total = self.vector(f"{tensors}.conv_bias")
        for tap in range(taps):
            end = tap + 1 - taps  # from the end; the last tap takes all of it
            shifted = op("Slice", both, ints([tap]), ints([end or np.iinfo(np.int64).max]), ints([1]))
            kernel = self.writer.initializer(f"{tensors}.conv_weight.{tap}", weight[:, tap])
            total = op("Add", total, op("Mul", shifted, kernel))
        self.next_window(past.past, xBC, past.present)
        return self.silu(total)

    def scan(self, x: str, dt: str, B: str, C: str, *, layer: int, tensors: str) -> str:
        """dt is 0 at padding, so that the state passes it unchanged."""
        c, op, ints = self.config, self.writer.op, self.writer.ints
        past = self.states[f"past_ssm.{layer}"]
        dt = op("Mul", op("Softplus", op("Add", dt, self.vector(f"{tensors}.dt_bias"))), self.is_real)
        A = -np.exp(self.tensors[f"{tensors}.A_log"])
        log_decay = op("Mul", dt, self.writer.initializer(f"{tensors}.A", A))
        heads = op("Reshape", x, ints([0, 0, c.num_ssm_heads, c.ssm_head_dim]))
        scaled = op("Reshape", op("Mul", heads, op("Unsqueeze", dt, ints([3]))), ints([0, 0, c.inner_size]))
        y = self.scan_of(scaled, log_decay, B, C, past=past.past, present=past.present)
        return op("Add", y, op("Mul", x, self.skip_weights(tensors)))

    def gated_norm(self, y: str, z: str, weight: str) -> str:
        """Gate, then norm over each group of channels."""
        op, ints, c = self.writer.op, self.writer.ints, self.config
        gated = op("Mul", y, self.silu(z))
        if c.num_groups > 1:
            grouped = op("Reshape", gated, ints([0, 0, c.num_groups, -1]))
            normed = op("Reshape", self.normalized(grouped), ints([0, 0, c.inner_size]))
        else:
            normed = self.normalized(gated)
        return op("Mul", normed, self.vector(weight))

    def attention(self, qkv: str, *, layer: int) -> str:
        """See `StandardAttention`."""
        return self.attention_of(qkv, layer=layer)
