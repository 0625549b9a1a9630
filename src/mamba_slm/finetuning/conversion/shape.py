"""Which hybrid a Transformer becomes. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mamba_slm.core.config import parse_value
from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import DEFAULT_ATTENTION_SHARE, attention_layers, build_pattern


@dataclass(frozen=True, kw_only=True)
class HybridShape:
    """The layers that keep attention, and the sizes of the Mamba-2 layers that replace the others."""

    keep_attention: float = DEFAULT_ATTENTION_SHARE
    """Share of the layers that keep their attention, in [0, 1]; 1 replaces nothing."""

    placement: str = "early-mid-top"
    """Where attention stays: early-mid-top, even, top, or layer numbers with commas, counted from 0."""

    expand: int = 2
    """Inner width of a Mamba-2 layer over hidden_size: SSM heads that every attention head begins as. llama.cpp runs
    only 2."""

    num_groups: int = 1
    """Groups of SSM heads with queries and keys (C and B) of their own: 1 runs everywhere; the number of key heads or
    query heads is nearer to the attention."""

    state_size: int | None = None
    """Width n of the SSM state. Unset: 128."""

    ssm_head_dim: int | None = None
    """Channels of an SSM head; divides the attention's head size. Unset: that size."""

    rotation: Literal["teacher", "plain"] = "teacher"
    """How the attention that stays rotates positions. teacher: stretched as the Transformer's are. plain: without
    stretching, for the context that the Transformer had before it, which is what a GGUF can hold of a Llama 3; the
    hybrid learns the difference while all weights learn (--trained all)."""

    def hybrid(self, config: ModelConfig) -> ModelConfig:
        """The config of the hybrid.

        Args:
            config: of the Transformer, as `model.llama.model_config_from_llama` gives it.

        Raises:
            ConfigError, UnknownNameError: sizes that do not fit, or no such placement.
        """
        if self.rotation == "plain" and config.rope_scaling != "none":
            before = round(config.max_context_tokens / config.rope_scaling_factor)
            config = replace(config, rope_scaling="none", rope_scaling_factor=1.0, max_context_tokens=before)
        layers = config.num_layers
        if self.keep_attention == 1:
            return config
        placement: str | Sequence[int] = self.placement
        if self.placement[:1].isdigit():
            placement = [parse_value(int, number) for number in self.placement.split(",")]
        kept = attention_layers(layers, attention_share=self.keep_attention, placement=placement)
        sizes: dict[str, Any] = {
            "state_size": self.state_size or DEFAULT_STATE_SIZE,
            "ssm_head_dim": self.ssm_head_dim or config.head_dim,
        }
        hybrid = replace(
            config,
            pattern=build_pattern(layers, kept),
            expand=self.expand,
            num_groups=self.num_groups,
            **sizes,
        )
        require_heads_fit(hybrid)
        return hybrid


DEFAULT_STATE_SIZE = 128
"""What every runtime has a fast scan for, and llama.cpp's GPU kernels want."""


def require_heads_fit(config: ModelConfig) -> None:
    """Raise ConfigError unless SSM heads can be cut from attention heads."""
    if config.head_dim % config.ssm_head_dim:
        raise ConfigError(
            f"ssm_head_dim {config.ssm_head_dim} does not divide the attention's head size {config.head_dim}",
            hint=f"use {config.head_dim}",
        )
    if config.num_kv_heads % config.num_groups and config.num_heads != config.num_groups:
        raise ConfigError(
            f"num_groups {config.num_groups} does not divide the {config.num_kv_heads} key heads of the attention",
            hint="use 1, the number of key heads, or the number of query heads",
        )
