"""Read the config.json of a `GraniteMoeHybrid` as a config of ours, or say which key our model cannot follow.

Keys were read in transformers 5.23, and in what it saved before version 5. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import LLAMA3_FACTORS, MODEL_TYPE, NO_TIME_STEP_LIMIT, rope_of
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA

LAYER_TYPES = {"mamba": MAMBA, "linear_attention": MAMBA, "attention": ATTENTION, "full_attention": ATTENTION}
"""transformers 5 saves linear_attention and full_attention; before, and in a portable config, mamba and attention."""
DEFAULT_ROPE_THETA = 10_000.0
DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "shared_intermediate_size": 1024,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_parameters": None,
    "position_embedding_type": None,
    "layer_types": None,
    "attention_bias": False,
    "attention_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
    "num_local_experts": 8,
    "mamba_n_heads": 128,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_head": "auto",
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "time_step_limit": (0.0, math.inf),
}
"""What an absent key means; with `head_dim` and the rope keys, all that a model without experts computes with."""
REQUIRED: dict[str, Any] = {
    "num_local_experts": 0,
    "hidden_act": "silu",
    "attention_bias": False,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
}
"""The one value of a key that our model computes."""
SIZE_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "feed_forward_size": "shared_intermediate_size",
    "state_size": "mamba_d_state",
    "expand": "mamba_expand",
    "conv_kernel": "mamba_d_conv",
    "num_groups": "mamba_n_groups",
    "chunk_size": "mamba_chunk_size",
    "max_context_tokens": "max_position_embeddings",
}
"""Our field: its key."""


def model_config_from_granite(values: Mapping[str, Any]) -> ModelConfig:
    """Our config for a config.json of a GraniteMoeHybrid without experts, in any spelling transformers has written.

    Keys that are absent have transformers' defaults. Keys that do not change what the model computes, such as token ids
    and dropout, are not looked at.

    Raises:
        ConfigError: not a GraniteMoeHybrid, or one that computes something our model does not; names the key.
    """
    if values.get("model_type") != MODEL_TYPE:
        raise ConfigError(f"model_type is {values.get('model_type')!r}, expected {MODEL_TYPE!r}")
    if values.get("quantization_config") is not None:
        raise ConfigError("quantization_config is set: the weights are not plain tensors")
    given = DEFAULTS | dict(values)
    for key, value in REQUIRED.items():
        require(given, key, value)
    require_no_time_step_limit(given["time_step_limit"])
    sizes = {field: whole(given, key) for field, key in SIZE_KEYS.items()}
    if given["num_key_value_heads"] is None:
        given["num_key_value_heads"] = sizes["num_heads"]
    head_dim = sizes["hidden_size"] // sizes["num_heads"]
    if given.get("head_dim") is not None:
        require(given, "head_dim", head_dim)
    require(given, "attention_multiplier", head_dim**-0.5)
    if given["position_embedding_type"] not in ("rope", "nope", None):
        raise ConfigError(f"position_embedding_type is {given['position_embedding_type']!r}, expected 'rope' or 'nope'")
    if not isinstance(given["tie_word_embeddings"], bool):
        raise ConfigError(f"tie_word_embeddings is {given['tie_word_embeddings']!r}, expected true or false")
    config = ModelConfig(
        pattern=pattern_of(given),
        num_kv_heads=whole(given, "num_key_value_heads"),
        ssm_head_dim=ssm_head_dim_of(given),
        position="rope" if given["position_embedding_type"] == "rope" else "nope",
        tie_embeddings=given["tie_word_embeddings"],
        norm_eps=positive(given, "rms_norm_eps"),
        **sizes,
        **rope_settings(given),
    )
    rope_of(config)  # refuses a yarn that transformers computes otherwise
    return config


def whole(given: Mapping[str, Any], key: str) -> int:
    """The value of `key`, a whole number of at least 1; ConfigError otherwise."""
    value = given.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key} is {value!r}, expected a whole number of at least 1")
    return value


def positive(given: Mapping[str, Any], key: str) -> float:
    """The value of `key`, a positive finite number; ConfigError otherwise."""
    value = given.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{key} is {value!r}, expected a positive number")
    return float(value)


def require(given: Mapping[str, Any], key: str, value: Any) -> None:
    """Raise ConfigError unless `key` has the one value that our model computes; numbers may differ by rounding."""
    found = given[key]
    numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in (found, value))
    same = math.isclose(found, value, rel_tol=1e-7) if numbers else found == value
    if not same:
        raise ConfigError(f"{key} is {found!r}; our model computes only {value!r}")


def require_no_time_step_limit(limit: Any) -> None:
    """Raise ConfigError if `time_step_limit` can act. transformers 5 saves infinity as {"__float__": "Infinity"}."""
    low, high = limit if isinstance(limit, list | tuple) and len(limit) == 2 else (math.nan, math.nan)
    if high == {"__float__": "Infinity"}:
        high = math.inf
    never_acts = (
        isinstance(low, int | float) and low <= 0 and isinstance(high, int | float) and high >= NO_TIME_STEP_LIMIT
    )
    if not never_acts:
        raise ConfigError(
            f"time_step_limit is {limit!r}; our model computes only limits that never act, such as "
            f"[0.0, {NO_TIME_STEP_LIMIT:g}]",
            hint="transformers applies a limit when it reads a prompt, but not when it generates",
        )


def ssm_head_dim_of(given: Mapping[str, Any]) -> int:
    """Channels of one SSM head; "auto" divides the inner size by the heads. ConfigError unless they fill it."""
    inner, heads = whole(given, "mamba_expand") * whole(given, "hidden_size"), whole(given, "mamba_n_heads")
    head_dim = inner // heads if given["mamba_d_head"] == "auto" else whole(given, "mamba_d_head")
    if head_dim * heads != inner:
        raise ConfigError(f"mamba_n_heads is {heads} and mamba_d_head {head_dim}; their product must be {inner}")
    return head_dim


def pattern_of(given: Mapping[str, Any]) -> str:
    """The pattern behind `layer_types`, in either spelling."""
    layers = whole(given, "num_hidden_layers")
    kinds = given["layer_types"] or given.get("layers_block_type") or ["mamba"] * layers
    if len(kinds) != layers:
        raise ConfigError(f"layer_types has {len(kinds)} entries, num_hidden_layers is {layers}")
    for kind in kinds:
        if kind not in LAYER_TYPES:
            raise ConfigError(f"layer_types has {kind!r}; known: {', '.join(LAYER_TYPES)}")
    return "".join(LAYER_TYPES[kind] + FEED_FORWARD for kind in kinds)


def rope_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary fields of ModelConfig from flat `rope_theta` and `rope_parameters`, or `rope_scaling`, its old name.

    A model without rotary positions keeps the theta: it is written back, and nothing reads it.
    """
    key = "rope_scaling" if given.get("rope_scaling") else "rope_parameters"
    rope = dict(given.get(key) or {})
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise ConfigError(f"{key} differs between layers ({', '.join(rope)}); our model has one for all")
    flat = given.get("rope_theta")
    theta = positive({"rope_theta": rope.get("rope_theta", DEFAULT_ROPE_THETA if flat is None else flat)}, "rope_theta")
    if flat is not None and flat != theta:
        raise ConfigError(f"rope_theta is {flat!r}, but {key} says {theta!r}")
    fraction = rope.get("partial_rotary_factor", given.get("partial_rotary_factor"))
    if fraction not in (None, 1):
        raise ConfigError(f"partial_rotary_factor is {fraction!r}; our model rotates whole heads")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if given["position_embedding_type"] != "rope" or kind == "default":
        return {"rope_theta": theta}
    if kind not in ("linear", "yarn", "llama3"):
        raise ConfigError(f"{key} has rope_type {kind!r}; our model computes default, linear, yarn and llama3")
    factor = positive(rope, "factor")
    if factor < 1:
        raise ConfigError(f"{key} has factor {factor:g}, expected at least 1")
    if kind == "yarn":
        require_plain_yarn(given, rope, factor)
    if kind == "llama3":
        original = round(whole(given, "max_position_embeddings") / factor)
        for name, value in {**LLAMA3_FACTORS, "original_max_position_embeddings": original}.items():
            require({name: None, **rope}, name, value)
    return {"rope_theta": theta} | ({"rope_scaling": kind, "rope_scaling_factor": factor} if factor > 1 else {})


def require_plain_yarn(given: Mapping[str, Any], rope: Mapping[str, Any], factor: float) -> None:
    """Raise ConfigError unless yarn has the constants of its paper and the whole context is the original times factor.

    Source: Peng et al., arXiv:2309.00071.
    """
    expected = {
        "original_max_position_embeddings": round(whole(given, "max_position_embeddings") / factor),
        "attention_factor": 0.1 * math.log(factor) + 1,
        "beta_fast": 32,
        "beta_slow": 1,
        "truncate": True,
        "mscale": None,
        "mscale_all_dim": None,
    }
    original = given.get("original_max_position_embeddings", rope.get("original_max_position_embeddings"))
    found = {**rope, "original_max_position_embeddings": original}
    for key, value in expected.items():
        if key == "original_max_position_embeddings" or found.get(key) is not None:
            require(found, key, value)
