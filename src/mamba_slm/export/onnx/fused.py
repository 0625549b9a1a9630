"""The lowering to ONNX Runtime's own operators: the fewest nodes per token. Letters as in `description`."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mamba_slm.export.onnx.graph import CONTRIB
from mamba_slm.export.onnx.lowering import SharedLowering, rotary_tables
from mamba_slm.export.onnx.standard_attention import StandardAttention
from mamba_slm.model.config import ModelConfig

OPSET, IR_VERSION = 21, 10


class FusedLowering(SharedLowering):
    """CausalConvWithState, LinearAttention, GroupQueryAttention and the fused norms of `com.microsoft`.

    Operators and their conventions were read in the schemas of onnxruntime 1.31.1.
    """

    def fused(self, kind: str, *inputs: str, outputs: list[str], **attributes: int | float | str) -> None:
        """A node of `com.microsoft`."""
        self.writer.node(kind, *inputs, domain=CONTRIB, outputs=outputs, **attributes)

    def add_and_norm(self, stream: str, change: str | None, weight: str, *, residual: str) -> tuple[str, str]:
        """One node for the sum and its norm."""
        normed = self.writer.unique("norm.out")
        if change is None:
            stream = self.writer.op("Identity", stream, output=residual)
            self.norm(stream, weight, normed)
        else:
            self.fused(
                "SkipSimplifiedLayerNormalization",
                stream,
                change,
                self.vector(weight),
                outputs=[normed, "", "", residual],
                epsilon=self.config.norm_eps,
            )
        return residual, normed

    def norm(self, x: str, weight: str, output: str) -> None:
        """RMSNorm over the last axis."""
        self.writer.node(
            "SimplifiedLayerNormalization",
            x,
            self.vector(weight),
            outputs=[output],
            axis=-1,
            epsilon=self.config.norm_eps,
            stash_type=1,
        )

    def silu(self, x: str) -> str:
        """x sigmoid(x)."""
        return self.writer.op("QuickGelu", x, domain=CONTRIB, alpha=1.0)

    def conv(self, xBC: str, *, layer: int, tensors: str) -> str:
        """One node, and two for the window that padding needs."""
        past = self.states[f"past_conv.{layer}"]
        weight = self.tensors[f"{tensors}.conv_weight"][:, None, :]
        convolved, unused = self.writer.unique("conv.out"), self.writer.unique("conv.window")
        self.fused(
            "CausalConvWithState",
            xBC,
            self.writer.initializer(f"{tensors}.conv_weight", weight),
            self.vector(f"{tensors}.conv_bias"),
            past.past,
            outputs=[convolved, unused],
            activation="silu",
            channels_last=1,
        )
        self.next_window(past.past, xBC, past.present)
        return convolved

    def scan(self, x: str, dt: str, B: str, C: str, *, layer: int, tensors: str) -> str:
        """log decay = -exp(A_log) softplus(dt + dt_bias), 0 at padding; step = log decay / A; value = x step."""
        c, op = self.config, self.writer.op
        A = -np.exp(self.tensors[f"{tensors}.A_log"])
        decay = op(
            "LinearAttentionGate",
            dt,
            self.vector(f"{tensors}.dt_bias"),
            self.writer.initializer(f"{tensors}.A", A),
            domain=CONTRIB,
        )
        decay = op("Mul", decay, self.is_real)
        step = op(
            "Unsqueeze", op("Mul", decay, self.writer.initializer(f"{tensors}.inverse_A", 1 / A)), self.writer.ints([3])
        )
        heads = op("Reshape", x, self.writer.ints([0, 0, c.num_ssm_heads, c.ssm_head_dim]))
        value = op("Reshape", op("Mul", heads, step), self.writer.ints([0, 0, c.inner_size]))
        past = self.states[f"past_ssm.{layer}"]
        scanned = self.writer.unique("scan.out")
        self.fused(
            "LinearAttention",
            C,
            B,
            value,
            past.past,
            decay,
            outputs=[scanned, past.present],
            q_num_heads=c.num_groups,
            kv_num_heads=c.num_ssm_heads,
            update_rule="gated",
            scale=1.0,
        )
        return op("Add", scanned, op("Mul", x, self.skip_weights(tensors)))

    def gated_norm(self, y: str, z: str, weight: str) -> str:
        """The gate comes before the norm, so `GatedRMSNorm`, where it comes after, does not fit."""
        gated, normed = self.writer.op("Mul", y, self.silu(z)), self.writer.unique("gated_norm.out")
        if self.config.num_groups == 1:
            self.norm(gated, weight, normed)
        else:
            self.fused(
                "BranchwiseRMSNorm",
                gated,
                self.vector(weight),
                outputs=[normed],
                num_branches=self.config.num_groups,
                epsilon=self.config.norm_eps,
            )
        return normed

    @cached_property
    def key_counts(self) -> tuple[str, str]:
        """`seqlens_k` [b] and `total_sequence_length` [], int32: see `GroupQueryAttention`.

        A row's new keys go behind its own earlier ones. Those of padding follow, are hidden by causality, and are
        overwritten by the next piece.
        """
        op, ints, int32 = self.writer.op, self.writer.ints, self.writer.onnx.TensorProto.INT32
        with self.writer.scope("rows"):
            last = op("Add", self.num_before, op("Sub", self.length, ints(1)))
            return op("Cast", op("Squeeze", last, ints([1])), to=int32), op("Cast", op("Squeeze", self.total), to=int32)

    @cached_property
    def rotary_tables(self) -> tuple[str, str]:
        """cos and sin of every position, [max_context_tokens head_dim / 2]."""
        cos, sin = rotary_tables(self.config)
        return self.writer.initializer("rotary.cos", cos), self.writer.initializer("rotary.sin", sin)

    @cached_property
    def standard_attention(self) -> StandardAttention:
        """For what `GroupQueryAttention` cannot do."""
        return StandardAttention(self)

    def attention(self, qkv: str, *, layer: int) -> str:
        """One node, which takes q, k and v as one tensor, where the model allows it."""
        c = self.config
        if not has_fused_attention(c):
            return self.standard_attention(qkv, layer=layer)
        key, value = (self.states[f"past_key_values.{layer}.{part}"] for part in ("key", "value"))
        output = self.writer.unique("attention.out")
        seqlens, total = self.key_counts
        rotates = c.position == "rope"
        tables = list(self.rotary_tables) if rotates else []
        self.fused(
            "GroupQueryAttention",
            *(qkv, "", "", key.past, value.past, seqlens, total, *tables),
            outputs=[output, key.present, value.present],
            num_heads=c.num_heads,
            kv_num_heads=c.num_kv_heads,
            do_rotary=int(rotates),
            local_window_size=c.attention_window or -1,
            scale=c.head_dim**-0.5,
        )
        return output


def has_fused_attention(config: ModelConfig) -> bool:
    """Whether `GroupQueryAttention` of onnxruntime 1.31.1 takes this attention. It takes heads of multiples of 16."""
    return config.position != "alibi" and config.head_dim % 16 == 0
