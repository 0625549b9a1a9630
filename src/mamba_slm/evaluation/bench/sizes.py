"""Models of equal size: attention in every layer, else as given. No torch."""

from __future__ import annotations

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD

EQUAL_SIZE_TOLERANCE = 0.01
WIDTH_STEPS = (64, 32, 16, 8, 4, 2, 1)


def llama_of_equal_size(config: ModelConfig) -> ModelConfig:
    """Attention in every layer, else the same, with a feed-forward so wide that the parameters agree to one percent.

    Of the widths that agree, the one that is a multiple of the largest power of two; layers are left out only where no
    width agrees.
    """
    wanted = count_parameters(config).total
    for layers in range(config.num_layers, 0, -1):
        for step in WIDTH_STEPS:
            candidate = attention_only(config, layers, 1)
            per_width = 3 * config.hidden_size * layers
            width = step * max(1, round((wanted - count_parameters(candidate).total) / per_width / step))
            candidate = attention_only(config, layers, width)
            if abs(count_parameters(candidate).total / wanted - 1) <= EQUAL_SIZE_TOLERANCE:
                return candidate
    raise ConfigError(f"no Llama has {wanted:,} parameters with hidden_size {config.hidden_size}")


def attention_only(config: ModelConfig, layers: int, feed_forward_size: int) -> ModelConfig:
    """The layout of a Llama with the widths of `config`."""
    return ModelConfig(
        pattern=(ATTENTION + FEED_FORWARD) * layers,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        feed_forward_size=feed_forward_size,
        max_context_tokens=config.max_context_tokens,
        rope_theta=config.rope_theta,
        tie_embeddings=config.tie_embeddings,
        norm_eps=config.norm_eps,
    )
