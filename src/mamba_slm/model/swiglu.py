"""The feed-forward sublayer. Letters: b batch, t time, d width, f inner width."""

from __future__ import annotations

from torch import Tensor, nn

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext
from mamba_slm.model.projection import Projection, product_dtype
from mamba_slm.ops.swiglu import swiglu


class SwiGLU(nn.Module):
    """down(silu(gate(u)) * up(u)); gate and up are one matrix, gate rows first. Source: Shazeer, arXiv:2002.05202."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_up_proj = Projection(config.hidden_size, 2 * config.feed_forward_size)
        self.down_proj = Projection(config.feed_forward_size, config.hidden_size)

    def forward(self, u: Tensor, context: CallContext, state: None) -> Tensor:
        """[b t d] to [b t d]. Positions and state play no part."""
        return self.down_proj(swiglu(self.gate_up_proj(u.to(product_dtype(self.gate_up_proj.weight)))))
