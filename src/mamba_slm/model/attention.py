"""The attention mixer: grouped queries, rotary or other positions, and the key-value cache.

Letters: b batch, t time, s key slots, d width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext
from mamba_slm.model.projection import Projection, product_dtype
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
        c, u = self.config, u.to(product_dtype(self.q_proj.weight))
        k = self.k_proj(u).unflatten(-1, (c.num_kv_heads, c.head_dim))
        v = self.v_proj(u).unflatten(-1, (c.num_kv_heads, c.head_dim))
        rotary = context.rotary
        if rotary is not None:
            k = apply_rope(k, *rotary)
        if context.last_only:
            u, context = u[:, -1:], last_of(context)
            rotary = None if rotary is None else (rotary[0][:, -1:], rotary[1][:, -1:])
        q = self.q_proj(u).unflatten(-1, (c.num_heads, c.head_dim))
        if rotary is not None:
            q = apply_rope(q, *rotary)
        if state is not None:
            k, v = state.append(k, v, context.length_before)
            k, v = k.to(q.dtype), v.to(q.dtype)
        terms = attention_terms(c, context)
        attended = attention(q, k, v, first_key=terms.first_key, mask=terms.mask, bias=terms.bias)
        return self.o_proj(attended.flatten(2))


def last_of(context: CallContext) -> CallContext:
    """The context of the last token alone; the keys stay."""
    first_key = None if context.first_key is None else context.first_key[:, -1:]
    return replace(context, positions=context.positions[:, -1:], first_key=first_key)


@dataclass(frozen=True, kw_only=True)
class AttentionTerms:
    """What `attention` is told besides queries, keys and values; each None where it needs none."""

    first_key: Tensor | None
    """[b t] first slot that each query sees."""
    mask: Tensor | None
    """[b 1 t s] what is seen besides."""
    bias: Tensor | None
    """[b h t s] added to the scores."""


def attention_terms(config: ModelConfig, context: CallContext) -> AttentionTerms:
    """Who sees whom in a call, as intervals of slots where that is possible and as a mask where not."""
    first_key, window, s = context.first_key, config.attention_window, context.key_positions.shape[1]
    if 0 < window < s and context.key_valid is None:
        b, t = context.positions.shape
        if counts_slots(context):
            begins = (torch.arange(s - t, s, device=context.positions.device) - window + 1).clamp(min=0).expand(b, t)
            first_key, window = begins if first_key is None else torch.maximum(begins, first_key), 0
    mask = attention_mask(
        context.positions, context.key_positions, key_valid=context.key_valid, window=window if window < s else 0
    )
    if config.position != "alibi":
        return AttentionTerms(first_key=first_key, mask=mask, bias=None)
    slopes = alibi_slopes(config.num_heads).to(context.positions.device)
    bias = alibi_bias(context.positions, context.key_positions, slopes)
    return AttentionTerms(first_key=first_key, mask=mask, bias=bias)


def counts_slots(context: CallContext) -> bool:
    """Whether positions grow by 1 with every slot that a query sees; always no under torch.compile."""
    if torch.compiler.is_compiling():
        return False
    slots = torch.arange(context.key_positions.shape[1], device=context.key_positions.device)
    distance = context.key_positions - slots
    jumps = F.pad(distance[:, 1:] != distance[:, :-1], (1, 0))
    last_jump = torch.where(jumps, slots, 0).cummax(dim=1).values[:, -context.positions.shape[1] :]
    first_key = last_jump.new_zeros(()) if context.first_key is None else context.first_key
    return bool((last_jump <= first_key).all())


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
