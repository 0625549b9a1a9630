"""The attention mixer: grouped queries, rotary or other positions, and the key-value cache.

Letters: b batch, t time, s key slots, d width.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext
from mamba_slm.model.projection import Projection
from mamba_slm.model.state import KeyValueState
from mamba_slm.ops.attention import alibi_bias, alibi_slopes, attention, attention_mask
from mamba_slm.ops.rope import apply_rope, rope_frequencies, rope_tables


class Attention(nn.Module):
    """q, k, v projections → positions → causal attention → output projection. No biases."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        kv_size = config.num_kv_heads * config.head_dim
        self.q_proj = Projection(config.hidden_size, config.hidden_size)
        self.k_proj = Projection(config.hidden_size, kv_size)
        self.v_proj = Projection(config.hidden_size, kv_size)
        self.o_proj = Projection(config.hidden_size, config.hidden_size)

    def forward(self, u: Tensor, context: CallContext, state: KeyValueState | None) -> Tensor:
        """[b t d] to [b t d], or [b 1 d] with `last_only`; appends to `state` if there is one."""
        c, u = self.config, u.to(self.q_proj.weight.dtype)
        k = self.k_proj(u).unflatten(-1, (c.num_kv_heads, c.head_dim))
        v = self.v_proj(u).unflatten(-1, (c.num_kv_heads, c.head_dim))
        rotary = context.rotary
        if rotary is not None:
            k = apply_rope(k, *rotary)
        if context.last_only:
            u, context = u[:, -1:], replace(context, positions=context.positions[:, -1:])
            rotary = None if rotary is None else (rotary[0][:, -1:], rotary[1][:, -1:])
        q = self.q_proj(u).unflatten(-1, (c.num_heads, c.head_dim))
        if rotary is not None:
            q = apply_rope(q, *rotary)
        if state is not None:
            k, v = state.append(k, v, context.length_before)
            k, v = k.to(q.dtype), v.to(q.dtype)
        mask, bias = attention_terms(c, context)
        return self.o_proj(attention(q, k, v, mask=mask, bias=bias).flatten(2))


def attention_terms(config: ModelConfig, context: CallContext) -> tuple[Tensor | None, Tensor | None]:
    """Mask [b 1 t s] and bias [b h t s] of a call, each None where `attention` needs none."""
    mask = attention_mask(
        context.positions,
        context.key_positions,
        document_ids=context.document_ids,
        key_valid=context.key_valid,
        window=config.attention_window,
    )
    if config.position != "alibi":
        return mask, None
    slopes = alibi_slopes(config.num_heads).to(context.positions.device)
    return mask, alibi_bias(context.positions, context.key_positions, slopes)


def rotary_tables(config: ModelConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin [b t head_dim] for the config's rotary settings."""
    frequencies, scale = rope_frequencies(
        config.head_dim,
        theta=config.rope_theta,
        scaling=config.rope_scaling,
        factor=config.rope_scaling_factor,
        original_context_tokens=round(config.max_context_tokens / config.rope_scaling_factor),
    )
    return rope_tables(positions, frequencies.to(positions.device), scale)
