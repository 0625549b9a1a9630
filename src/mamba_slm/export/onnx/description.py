"""The model as a graph, said once. What each step becomes is a lowering's: `fused` or `portable`.

Letters: b batch, L new tokens, T all tokens, d width, i inner size, h SSM heads, p SSM head dim, g groups, n state,
c = i + 2gn, v vocabulary.
"""

from __future__ import annotations

from typing import Protocol

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA


class Lowering(Protocol):
    """The steps of the model; values are names in a graph, tensors are named as in `LanguageModel.state_dict`."""

    def embed(self, tensor: str) -> str:
        """The embedding of every new token, [b L d]; called first."""
        ...

    def add_and_norm(self, stream: str, change: str | None, weight: str, *, residual: str) -> tuple[str, str]:
        """(stream + change, called `residual`; its RMSNorm)."""
        ...

    def linear(self, x: str, *tensors: str) -> str:
        """x times the transpose of one matrix, or of several under each other: [b L inputs] to [b L outputs]."""
        ...

    def split(self, x: str, *sizes: int) -> list[str]:
        """The last axis in pieces."""
        ...

    def conv(self, xBC: str, *, layer: int, tensors: str) -> str:
        """Causal convolution from the layer's window, and SiLU: [b L c]."""
        ...

    def scan(self, x: str, dt: str, B: str, C: str, *, layer: int, tensors: str) -> str:
        """dt to softplus(dt + dt_bias), the recurrence from the layer's state, plus D x: [b L i]."""
        ...

    def gated_norm(self, y: str, z: str, weight: str) -> str:
        """RMSNorm(y silu(z)) over each group: [b L i]."""
        ...

    def attention(self, qkv: str, *, layer: int) -> str:
        """q, k, v side by side to the layer's attention output, [b L d]."""
        ...

    def swiglu(self, gate_up: str) -> str:
        """silu(gate) up, [b L f]."""
        ...

    def head(self, normed: str, tensor: str) -> None:
        """Declare the logits; called last."""
        ...


def residual_name(number: int) -> str:
    """Name of the residual stream before sublayer `number`, or behind the last one."""
    return f"residual.{number}"


FINAL_NORM = "final_norm"
"""Name of what the head multiplies, before rows that nobody asked for are dropped."""


def describe(config: ModelConfig, lowering: Lowering) -> None:
    """Embedding → residual sublayers from the pattern → norm → head, as `mamba_slm.model.stack` does it."""
    stream, change, layer = lowering.embed("embedding.weight"), None, 0
    for index, kind in enumerate(config.pattern):
        tensors = f"sublayers.{index}"
        stream, u = lowering.add_and_norm(stream, change, f"{tensors}.norm.weight", residual=residual_name(index))
        tensors = f"{tensors}.mixer"
        if kind == MAMBA:
            change = describe_mamba(config, lowering, u, layer=layer, tensors=tensors)
        elif kind == ATTENTION:
            qkv = lowering.linear(u, *(f"{tensors}.{part}_proj.weight" for part in "qkv"))
            change = lowering.linear(lowering.attention(qkv, layer=layer), f"{tensors}.o_proj.weight")
        else:
            gate_up = lowering.linear(u, f"{tensors}.gate_up_proj.weight")
            change = lowering.linear(lowering.swiglu(gate_up), f"{tensors}.down_proj.weight")
        layer += kind != FEED_FORWARD
    last = residual_name(len(config.pattern))
    _, normed = lowering.add_and_norm(stream, change, "final_norm.weight", residual=last)
    lowering.head(normed, "embedding.weight" if config.tie_embeddings else "lm_head.weight")


def describe_mamba(config: ModelConfig, lowering: Lowering, u: str, *, layer: int, tensors: str) -> str:
    """in_proj → convolution and SiLU over x, B, C → scan → gated norm → out_proj."""
    projected = lowering.linear(u, f"{tensors}.in_proj.weight")
    z, xBC, dt = lowering.split(projected, config.inner_size, config.conv_size, config.num_ssm_heads)
    grouped = config.num_groups * config.state_size
    x, B, C = lowering.split(lowering.conv(xBC, layer=layer, tensors=tensors), config.inner_size, grouped, grouped)
    y = lowering.scan(x, dt, B, C, layer=layer, tensors=tensors)
    return lowering.linear(lowering.gated_norm(y, z, f"{tensors}.norm.weight"), f"{tensors}.out_proj.weight")
