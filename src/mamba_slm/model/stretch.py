"""The same weights made for longer sequences. Imports no torch.

Rotary positions beyond the trained length have angles that were never seen; stretching them keeps angles in the trained
range. What a method does is in `ops.rope.rope_frequencies`. A state-space layer has no positions and needs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig

Method = Literal["ntk", "yarn", "linear", "llama3", "none"]
METHODS: tuple[Method, ...] = ("ntk", "yarn", "linear", "llama3", "none")


def trained_context_tokens(config: ModelConfig) -> int:
    """The length before any stretching."""
    if config.rope_scaling == "none":
        return config.max_context_tokens
    return round(config.max_context_tokens / config.rope_scaling_factor)


def stretched(config: ModelConfig, context_tokens: int, method: Method = "ntk") -> ModelConfig:
    """The config for sequences of `context_tokens`, with rotary positions stretched by as much as that needs.

    The stretch is chosen once for a sequence, from its length, as "dynamic NTK" wants it; it never changes inside one,
    so that keys in the cache stay right and a prompt may be read in any pieces. A length within the trained context
    changes nothing.

    Args:
        context_tokens: longest sequence, of prompt and continuation together.
        method: "none" only raises the limit: right for `nope` and `alibi`, and for a window of attention.

    Raises:
        ConfigError: learned positions, which end with the trained context.
    """
    if context_tokens <= config.max_context_tokens:
        return config
    if config.position == "learned":
        raise ConfigError(
            f"learned positions end at {config.max_context_tokens:,} tokens and cannot be stretched",
            hint="train a model with --model-settings position=rope",
        )
    trained = trained_context_tokens(config)
    if method == "none" or config.position != "rope" or not config.num_attention:
        return replace(config, max_context_tokens=context_tokens, rope_scaling="none", rope_scaling_factor=1.0)
    return replace(
        config,
        max_context_tokens=context_tokens,
        rope_scaling=method,
        rope_scaling_factor=context_tokens / trained,
    )


def describe_stretch(config: ModelConfig) -> str:
    """What `stretched` did, for the user."""
    trained = trained_context_tokens(config)
    if config.rope_scaling == "none":
        return f"positions as they are for {config.max_context_tokens:,} tokens"
    return (
        f"rotary positions stretched by {config.rope_scaling} from {trained:,} to {config.max_context_tokens:,} tokens "
        "(not trained there unless by mamba-slm extend)"
    )
