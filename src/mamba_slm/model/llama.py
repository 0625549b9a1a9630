"""A Llama of transformers as a model of ours whose every mixer is attention: its config, and its tensors. No torch.

    h + o(attention(q, k, v of norm(h)));  h + down(silu(gate) * up of norm(h))

is what `LanguageModel` computes for the pattern `*-*-…`, so nothing is approximated. Mistral and Qwen2 spell the same
with other keys. What our model does not compute is refused with the name of the key or tensor, never turned into
another function. Keys and defaults were read in transformers 5.23, and in what it saved before version 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite_import import positive, require, rope_settings, whole
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD

MODEL_TYPES = ("llama", "mistral", "qwen2")
"""Architectures with these two sublayers and nothing else. Qwen3 and Gemma norm queries and keys as well."""
DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu",
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
"""What an absent key means in all three."""
SLIDING_WINDOW = 4096
"""What Mistral means without the key; null there means no window."""


@dataclass(frozen=True, kw_only=True)
class LlamaTensor:
    """One tensor of ours and what it is made of."""

    ours: str
    theirs: tuple[str, ...]
    """One name, or several whose rows follow one another."""


def model_config_from_llama(values: Mapping[str, Any]) -> ModelConfig:
    """Our config, with attention in every layer, for a config.json of a Llama, Mistral or Qwen2.

    Positions stretched by llama3 or yarn keep the frequencies they were trained with: our context is then their
    original context times the factor, which is more than `max_position_embeddings` where the factor was chosen larger
    than that needs. Llama 3.2: 8,192 * 32 = 262,144.

    Raises:
        ConfigError: another architecture, or a key that our model does not follow; names it.
    """
    kind = values.get("model_type")
    if kind not in MODEL_TYPES:
        raise ConfigError(
            f"model_type is {kind!r}; {', '.join(MODEL_TYPES)} can be converted",
            hint="give the folder of a Llama in the form of transformers (config.json and safetensors)",
        )
    if values.get("quantization_config") is not None:
        raise ConfigError(
            "quantization_config is set: the weights are not plain tensors", hint="convert the model in BF16"
        )
    given = DEFAULTS | dict(values) | {"position_embedding_type": "rope"}
    require(given, "hidden_act", "silu")
    if not isinstance(given["tie_word_embeddings"], bool):
        raise ConfigError(f"tie_word_embeddings is {given['tie_word_embeddings']!r}, expected true or false")
    hidden, heads = whole(given, "hidden_size"), whole(given, "num_attention_heads")
    if given.get("head_dim") is not None and given["head_dim"] * heads != hidden:
        raise ConfigError(
            f"head_dim is {given['head_dim']!r}; our model computes only hidden_size / num_attention_heads = "
            f"{hidden / heads:g}"
        )
    if given["num_key_value_heads"] is None:
        given["num_key_value_heads"] = heads
    context = context_tokens(given)
    rope = rope_settings({**given, "max_position_embeddings": context})
    window = sliding_window(given)
    return ModelConfig(
        pattern=(ATTENTION + FEED_FORWARD) * whole(given, "num_hidden_layers"),
        vocab_size=whole(given, "vocab_size"),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=whole(given, "num_key_value_heads"),
        feed_forward_size=whole(given, "intermediate_size"),
        max_context_tokens=context,
        attention_window=0 if window >= context else window,
        tie_embeddings=given["tie_word_embeddings"],
        norm_eps=positive(given, "rms_norm_eps"),
        **rope,
    )


def context_tokens(given: Mapping[str, Any]) -> int:
    """The context for which our rotary frequencies are theirs: see `model_config_from_llama`."""
    context = whole(given, "max_position_embeddings")
    rope = given.get("rope_scaling") or given.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    original = rope.get("original_max_position_embeddings")
    if kind not in ("llama3", "yarn") or original is None:
        return context
    return round(whole(rope, "original_max_position_embeddings") * positive(rope, "factor"))


def sliding_window(given: Mapping[str, Any]) -> int:
    """Latest tokens that a token attends to, itself included; 0 means all."""
    kind = given["model_type"]
    window = given.get("sliding_window", SLIDING_WINDOW) if kind == "mistral" else None
    if kind == "qwen2" and given.get("use_sliding_window"):
        raise ConfigError("use_sliding_window is true: its window differs between layers, and ours does not")
    return 0 if window is None else whole({"sliding_window": window}, "sliding_window")


def llama_tensors(config: ModelConfig) -> Iterator[LlamaTensor]:
    """Every tensor of the all-attention model and its names in a Llama.

    Args:
        config: what `model_config_from_llama` gave.
    """
    yield LlamaTensor(ours="embedding.weight", theirs=("model.embed_tokens.weight",))
    for layer in range(config.num_layers):
        mixer, feed_forward = f"sublayers.{2 * layer}", f"sublayers.{2 * layer + 1}"
        theirs = f"model.layers.{layer}"
        yield LlamaTensor(ours=f"{mixer}.norm.weight", theirs=(f"{theirs}.input_layernorm.weight",))
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield LlamaTensor(ours=f"{mixer}.mixer.{part}.weight", theirs=(f"{theirs}.self_attn.{part}.weight",))
        yield LlamaTensor(ours=f"{feed_forward}.norm.weight", theirs=(f"{theirs}.post_attention_layernorm.weight",))
        yield LlamaTensor(
            ours=f"{feed_forward}.mixer.gate_up_proj.weight",
            theirs=(f"{theirs}.mlp.gate_proj.weight", f"{theirs}.mlp.up_proj.weight"),
        )
        yield LlamaTensor(ours=f"{feed_forward}.mixer.down_proj.weight", theirs=(f"{theirs}.mlp.down_proj.weight",))
    yield LlamaTensor(ours="final_norm.weight", theirs=("model.norm.weight",))
    if not config.tie_embeddings:
        yield LlamaTensor(ours="lm_head.weight", theirs=("lm_head.weight",))
