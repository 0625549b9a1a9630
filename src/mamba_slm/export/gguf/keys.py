"""The metadata of a GGUF of architecture `granitehybrid`: a config as keys and values, and back.

Reading goes through the config of a GraniteMoeHybrid, which is the same architecture: what our model does not compute
is refused there, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.export.gguf.layout import feed_forward_size, layers_of
from mamba_slm.export.hf.importing import read_config
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import MODEL_TYPE, NO_TIME_STEP_LIMIT, rope_of
from mamba_slm.model.pattern import ATTENTION

ARCHITECTURE = "granitehybrid"
UINT32, FLOAT32, BOOL, STRING, INT32_ARRAY = "uint32", "float32", "bool", "string", "int32 array"


@dataclass(frozen=True)
class Key:
    """One key of the metadata; `kind` is one of the constants of this module."""

    name: str
    kind: str
    value: Any


def model_keys(config: ModelConfig) -> list[Key]:
    """What llama.cpp must know to compute the model; names without `granitehybrid.` in front.

    Raises:
        ConfigError: rotary positions that llama.cpp stretches otherwise.
    """
    kinds = [kind for kind, _, _ in layers_of(config.pattern)]
    theta, rope = rope_of(config)
    width = feed_forward_size(config)
    inner = 2 * config.hidden_size  # asserted also where no layer is a Mamba-2 mixer
    keys = [
        Key("vocab_size", UINT32, config.vocab_size),
        Key("context_length", UINT32, config.max_context_tokens),
        Key("embedding_length", UINT32, config.hidden_size),
        Key("block_count", UINT32, len(kinds)),
        Key("feed_forward_length", UINT32, width),
        Key("expert_shared_feed_forward_length", UINT32, width),
        Key("expert_count", UINT32, 0),
        Key("expert_used_count", UINT32, 0),
        Key("attention.head_count", UINT32, config.num_heads),
        # 0 makes a layer recurrent
        Key("attention.head_count_kv", INT32_ARRAY, [config.num_kv_heads * (kind == ATTENTION) for kind in kinds]),
        Key("attention.layer_norm_rms_epsilon", FLOAT32, config.norm_eps),
        Key("attention.scale", FLOAT32, config.head_dim**-0.5),
        # the switch of rotary positions, whatever its name says
        Key("rope.scaling.finetuned", BOOL, config.position == "rope"),
        Key("rope.freq_base", FLOAT32, theta),
        Key("rope.dimension_count", UINT32, config.head_dim),
        Key("embedding_scale", FLOAT32, 1.0),
        Key("residual_scale", FLOAT32, 1.0),
        Key("logit_scale", FLOAT32, 1.0),
        Key("ssm.conv_kernel", UINT32, config.conv_kernel),
        Key("ssm.state_size", UINT32, config.state_size),
        Key("ssm.group_count", UINT32, config.num_groups),
        Key("ssm.inner_size", UINT32, inner),
        Key("ssm.time_step_rank", UINT32, inner // config.ssm_head_dim),
    ]
    if rope["rope_type"] == "llama3":
        raise ConfigError(
            "rope_scaling llama3 does not fit into a GGUF of this architecture: llama.cpp would rotate without it",
            hint="use ntk, linear or yarn: mamba-slm extend MODEL --method ntk",
        )
    if rope["rope_type"] != "default":
        keys += [
            Key("rope.scaling.type", STRING, rope["rope_type"]),
            Key("rope.scaling.factor", FLOAT32, rope["factor"]),
        ]
    if rope["rope_type"] == "yarn":
        original = rope["original_max_position_embeddings"]
        keys.append(Key("rope.scaling.original_context_length", UINT32, original))
    return keys


def config_from_keys(given: Mapping[str, Any], *, tied: bool) -> tuple[ModelConfig, dict[str, float]]:
    """The config behind the keys of a file, with a feed-forward in every layer, and multipliers for the weights.

    Granite's own models have multipliers; they are named as transformers names them, for `fold`.

    Args:
        given: all keys of the file by full name; float32 values as the shortest decimal number that rounds to them.
        tied: whether the file has no output matrix of its own.

    Raises:
        DataError: another architecture, or a key is missing.
        ConfigError: something that our model does not compute; names it as transformers does.
    """
    architecture = given.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise DataError(
            f"the file holds a model of architecture {architecture!r}", hint=f"only {ARCHITECTURE} can be read here"
        )

    def key(name: str, *default: Any) -> Any:
        full = f"{ARCHITECTURE}.{name}"
        if full not in given and not default:
            raise DataError(f"the key {full} is missing")
        return given.get(full, *default)

    layers, heads, hidden = key("block_count"), key("attention.head_count"), key("embedding_length")
    kv_heads = key("attention.head_count_kv", heads)
    per_layer = kv_heads if isinstance(kv_heads, list) else [kv_heads] * layers
    different = sorted(set(per_layer) - {0}) or [heads]
    if len(different) > 1 or len(per_layer) != layers:
        raise ConfigError(f"attention.head_count_kv is {per_layer}; our model has one number for all attention layers")
    if key("rope.dimension_count", hidden // heads) != hidden // heads:
        raise ConfigError(f"rope.dimension_count is {key('rope.dimension_count')}; our model rotates whole heads")
    ssm_heads, inner = key("ssm.time_step_rank"), key("ssm.inner_size")
    return read_config(
        {
            "model_type": MODEL_TYPE,
            "vocab_size": key("vocab_size", len(given.get("tokenizer.ggml.tokens", ()))),
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "layer_types": ["attention" if count else "mamba" for count in per_layer],
            "num_attention_heads": heads,
            "num_key_value_heads": different[0],
            "attention_multiplier": key("attention.scale", 0.0) or (hidden // heads) ** -0.5,
            "position_embedding_type": "rope" if key("rope.scaling.finetuned", True) else "nope",
            "max_position_embeddings": key("context_length"),
            "shared_intermediate_size": key("feed_forward_length"),
            "num_local_experts": key("expert_count", 0),
            "mamba_n_heads": ssm_heads,
            "mamba_d_head": inner // ssm_heads,
            "mamba_d_state": key("ssm.state_size"),
            "mamba_n_groups": key("ssm.group_count"),
            "mamba_d_conv": key("ssm.conv_kernel"),
            "mamba_expand": inner // hidden,
            "time_step_limit": [0.0, NO_TIME_STEP_LIMIT],
            "embedding_multiplier": key("embedding_scale", 0.0) or 1.0,
            "residual_multiplier": key("residual_scale", 0.0) or 1.0,
            "logits_scaling": key("logit_scale", 0.0) or 1.0,
            "rms_norm_eps": key("attention.layer_norm_rms_epsilon"),
            "tie_word_embeddings": tied,
            **rope_parameters(key),
        }
    )


def rope_parameters(key: Any) -> dict[str, Any]:
    """Theta and scaling as transformers spells them."""
    theta = key("rope.freq_base", 10_000.0)
    kind, factor = key("rope.scaling.type", "none"), key("rope.scaling.factor", 0.0)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if kind != "none" and factor not in (0.0, 1.0):
        rope |= {"rope_type": kind, "factor": factor}
        if kind == "yarn":
            original = key("rope.scaling.original_context_length", key("context_length"))
            rope |= {"original_max_position_embeddings": original}
    return {"rope_theta": theta, "rope_parameters": rope}
