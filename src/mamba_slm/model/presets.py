"""Named sizes, as functions that build a `ModelConfig`. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import DEFAULT_ATTENTION_SHARE, Layout, attention_layers, build_pattern

LLAMA3_VOCABULARY = 128_256


@dataclass(frozen=True, kw_only=True)
class Size:
    """What distinguishes one preset; everything else follows."""

    layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    feed_forward_size: int
    """In the portable layout; the classic layout uses 4 * hidden_size."""
    vocab_size: int = LLAMA3_VOCABULARY
    max_context_tokens: int = 8192
    state_size: int = 128
    ssm_head_dim: int = 64
    chunk_size: int = 256
    rope_theta: float = 500_000.0
    placement: str = "early-mid-top"
    attention_share: float = DEFAULT_ATTENTION_SHARE
    layout: Layout = "portable"
    tied: bool | None = None
    """None: tied in the portable layout, untied in the classic one, as published."""
    purpose: str = ""


SIZES: dict[str, Size] = {
    "nano": Size(
        layers=3,
        hidden_size=192,
        num_heads=3,
        num_kv_heads=1,
        feed_forward_size=384,
        vocab_size=4096,
        max_context_tokens=2048,
        state_size=64,
        chunk_size=64,
        rope_theta=10_000.0,
        purpose="the quick start: minutes on a laptop",
    ),
    "tiny": Size(
        layers=8,
        hidden_size=320,
        num_heads=5,
        num_kv_heads=1,
        feed_forward_size=512,
        vocab_size=8192,
        max_context_tokens=2048,
        state_size=64,
        chunk_size=64,
        rope_theta=10_000.0,
        purpose="an hour on a laptop",
    ),
    "60M": Size(
        layers=12,
        hidden_size=512,
        num_heads=8,
        num_kv_heads=2,
        feed_forward_size=1536,
        vocab_size=32_000,
        max_context_tokens=8192,
        placement="0,1,5,10",
        purpose="the benchmark model",
    ),
    "demo": Size(
        layers=4,
        hidden_size=256,
        num_heads=4,
        num_kv_heads=4,
        feed_forward_size=1024,
        max_context_tokens=1024,
        attention_share=0.5,
        layout="classic",
        purpose="the published demonstration",
    ),
    "125M": Size(
        layers=12,
        hidden_size=768,
        num_heads=12,
        num_kv_heads=4,
        feed_forward_size=2048,
        vocab_size=32_000,
        purpose="one consumer GPU",
    ),
    "350M": Size(
        layers=24,
        hidden_size=1024,
        num_heads=16,
        num_kv_heads=4,
        feed_forward_size=2560,
        vocab_size=32_000,
        purpose="one GPU for a day",
    ),
    "1.3B": Size(
        layers=24, hidden_size=2048, num_heads=16, num_kv_heads=4, feed_forward_size=4608, purpose="published size"
    ),
    "2.7B": Size(
        layers=32, hidden_size=2560, num_heads=20, num_kv_heads=4, feed_forward_size=4864, purpose="published size"
    ),
    "6.7B": Size(
        layers=32, hidden_size=4096, num_heads=32, num_kv_heads=8, feed_forward_size=7168, purpose="published size"
    ),
    "13B": Size(
        layers=40, hidden_size=5120, num_heads=40, num_kv_heads=8, feed_forward_size=8192, purpose="published size"
    ),
}


def preset(
    name: str,
    *,
    layout: Layout | None = None,
    vocab_size: int | None = None,
    attention_share: float | None = None,
    placement: str | Sequence[int] | None = None,
    pattern: str | None = None,
    **overrides: object,
) -> ModelConfig:
    """The config of a named size.

    Args:
        name: a key of `SIZES`.
        layout: "portable" (every mixer has a feed-forward) or "classic" (only attention has, of 4 * hidden_size, and
            the head is untied). None takes the preset's own.
        vocab_size: rows of the embedding, usually those of the tokenizer; None takes the preset's.
        attention_share, placement: where attention goes; see `attention_layers`.
        pattern: replaces the whole layer pattern.
        overrides: any other field of `ModelConfig`; an unknown one is an error.

    Raises:
        UnknownNameError: no such preset or field; names the nearest.
        ConfigError: the sizes do not fit together.
    """
    if name not in SIZES:
        raise UnknownNameError("preset", name, SIZES, hint="mamba-slm models list shows them all")
    size = SIZES[name]
    layout = layout or size.layout
    if pattern is None:
        attention = attention_layers(
            size.layers,
            attention_share=size.attention_share if attention_share is None else attention_share,
            placement=size.placement if placement is None else placement,
        )
        pattern = build_pattern(size.layers, attention, layout=layout)
    config = ModelConfig(
        pattern=pattern,
        vocab_size=vocab_size or size.vocab_size,
        hidden_size=size.hidden_size,
        num_heads=size.num_heads,
        num_kv_heads=size.num_kv_heads,
        feed_forward_size=size.feed_forward_size if layout == "portable" else 4 * size.hidden_size,
        state_size=size.state_size,
        ssm_head_dim=size.ssm_head_dim,
        chunk_size=size.chunk_size,
        max_context_tokens=size.max_context_tokens,
        rope_theta=size.rope_theta,
        tie_embeddings=layout == "portable" if size.tied is None else size.tied,
    )
    known = set(ModelConfig.__dataclass_fields__)
    for field in overrides:
        if field not in known:
            raise UnknownNameError("model setting", field, known)
    return replace(config, **overrides)  # type: ignore[arg-type]
