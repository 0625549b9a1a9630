"""Parameters, FLOPs and bytes of a model from its config alone. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.units import format_count
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import OWN_LETTERS, plugin_letters_in
from mamba_slm.model.sublayer_plugin import flops_of, parameters_of, state_bytes_of


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters by part; norms before a sublayer count with the sublayer."""

    embedding: int
    head: int
    mamba: int
    attention: int
    feed_forward: int
    final_norm: int
    plugins: int = 0
    """Sublayers of plugins."""

    @property
    def total(self) -> int:
        """All parameters; a tied head counts once."""
        own = self.embedding + self.head + self.mamba + self.attention + self.feed_forward + self.final_norm
        return own + self.plugins

    def __str__(self) -> str:
        parts = ("embedding", "head", "mamba", "attention", "feed_forward", "plugins")
        split = ", ".join(f"{name} {format_count(getattr(self, name))}" for name in parts if getattr(self, name))
        return f"{format_count(self.total)} parameters ({split})"


def mamba_parameters(config: ModelConfig) -> int:
    """One Mamba-2 sublayer with its norm."""
    return (
        config.hidden_size
        + config.hidden_size * config.in_proj_size
        + config.conv_size * (config.conv_kernel + 1)
        + 3 * config.num_ssm_heads
        + config.inner_size
        + config.inner_size * config.hidden_size
    )


def attention_parameters(config: ModelConfig) -> int:
    """One attention sublayer with its norm."""
    kv_size = config.num_kv_heads * config.head_dim
    return config.hidden_size + 2 * config.hidden_size * config.hidden_size + 2 * config.hidden_size * kv_size


def feed_forward_parameters(config: ModelConfig) -> int:
    """One SwiGLU sublayer with its norm."""
    return config.hidden_size + 3 * config.hidden_size * config.feed_forward_size


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Parameters by part, exactly as `LanguageModel` allocates them."""
    embedding = config.vocab_size * config.hidden_size
    positions = config.max_context_tokens * config.hidden_size if config.position == "learned" else 0
    return ParameterCount(
        embedding=embedding + positions,
        head=0 if config.tie_embeddings else embedding,
        mamba=config.num_mamba * mamba_parameters(config),
        attention=config.num_attention * attention_parameters(config),
        feed_forward=config.num_feed_forward * feed_forward_parameters(config),
        final_norm=config.hidden_size,
        plugins=sum(parameters_of(config, letter) for letter in config.pattern if letter not in OWN_LETTERS),
    )


def weight_bytes(config: ModelConfig, *, bytes_per_parameter: float = 2) -> int:
    """Size of the weights; 2 bytes per parameter is BF16."""
    return round(count_parameters(config).total * bytes_per_parameter)


def forward_flops_by_part(config: ModelConfig, context_tokens: int) -> dict[str, float]:
    """Multiply-adds count as two; per token, averaged over a causal sequence of `context_tokens`.

    Projections cost 2 per weight. Attention costs 2 * (QK and PV) over the visible half of the sequence. The chunked
    scan costs, per token and with chunks of q: C·B within the chunk 2*q*g*n, its product with x 2*q*i, the chunk's
    state and its read-out 2*n*i each (i = inner size). The embedding lookup costs nothing; the head counts.
    """
    c = config
    plugins = sum(flops_of(c, letter) * c.pattern.count(letter) for letter in plugin_letters_in(c.pattern))
    return ({"plugins": plugins} if plugins else {}) | {
        "mamba": c.num_mamba * mamba_flops(c, context_tokens),
        "attention": c.num_attention * attention_flops(c, context_tokens),
        "feed_forward": c.num_feed_forward * 6 * c.hidden_size * c.feed_forward_size,
        "head": 2 * c.hidden_size * c.vocab_size,
    }


def mamba_flops(config: ModelConfig, context_tokens: int) -> float:
    """One Mamba-2 sublayer, forward, per token."""
    c, q = config, min(config.chunk_size, context_tokens)
    return (
        2 * c.hidden_size * (c.in_proj_size + c.inner_size)
        + 2 * c.conv_kernel * c.conv_size
        + 2 * q * (c.num_groups * c.state_size + c.inner_size)
        + 4 * c.state_size * c.inner_size
    )


def attention_flops(config: ModelConfig, context_tokens: int) -> float:
    """One attention sublayer, forward, per token."""
    c = config
    visible = min(context_tokens, c.attention_window) if c.attention_window else context_tokens
    return 4 * c.hidden_size * (c.hidden_size + c.num_kv_heads * c.head_dim) + 2 * visible * c.hidden_size


def forward_flops_per_token(config: ModelConfig, context_tokens: int) -> float:
    """The sum of `forward_flops_by_part`."""
    return sum(forward_flops_by_part(config, context_tokens).values())


def context_of_equal_flops(config: ModelConfig) -> int | None:
    """From how many tokens of context on the hybrid costs fewer FLOPs than attention alone of equal parameters.

    The parameters that an attention layer has fewer than a Mamba layer go into feed-forwards, at 2 FLOPs each. What is
    left to compare are the scan, whose cost ends to grow at a chunk, and the scores, which grow by 2 d per token:
    2 t d > 2 q (g n + i) + 4 n i + the convolution. Time is another matter: `mamba-slm bench --crossover` measures it.

    Returns:
        The length; None where there is no Mamba layer, or attention has a window so short that it never costs more.
    """
    spare = 2 * (mamba_parameters(config) - attention_parameters(config))
    low, high = 1, 1 << 24
    if config.num_mamba == 0 or attention_flops(config, high) + spare <= mamba_flops(config, high):
        return None
    while low < high:
        middle = (low + high) // 2
        if attention_flops(config, middle) + spare > mamba_flops(config, middle):
            high = middle
        else:
            low = middle + 1
    return low


def train_flops_per_token(config: ModelConfig, context_tokens: int) -> float:
    """Forward and backward: three times the forward. Recomputation is not counted, as MFU wants it."""
    return 3 * forward_flops_per_token(config, context_tokens)


def state_bytes(config: ModelConfig, context_tokens: int, *, cache_bytes: int = 2) -> int:
    """Memory of one conversation of `context_tokens`.

    The SSM state is float32 and constant; the convolution window and the keys and values have `cache_bytes` per value
    (2 for BF16), and only the keys and values grow with the context. A window limits what attention reads, not what is
    kept.
    """
    ssm = config.num_ssm_heads * config.ssm_head_dim * config.state_size * 4
    window = (config.conv_kernel - 1) * config.conv_size * cache_bytes
    kv = 2 * config.num_kv_heads * config.head_dim * context_tokens * cache_bytes
    plugins = sum(
        state_bytes_of(config, letter, cache_bytes=cache_bytes) * config.pattern.count(letter)
        for letter in plugin_letters_in(config.pattern)
    )
    return config.num_mamba * (ssm + window) + config.num_attention * kv + plugins
