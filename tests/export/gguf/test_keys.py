"""Promises of the metadata: every key that llama.cpp asks for, and a way back to the config."""

from dataclasses import replace

import pytest

from export.gguf.small_gguf_models import VARIANTS, small_config
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.export.gguf.keys import ARCHITECTURE, config_from_keys, model_keys
from mamba_slm.export.gguf.layout import feed_forward_size, layers_of


def keys_of(config):
    """All keys as a reader finds them."""
    named = {f"{ARCHITECTURE}.{key.name}": key.value for key in model_keys(config)}
    return {"general.architecture": ARCHITECTURE, **named}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_config_comes_back_with_a_feed_forward_in_every_layer(variant):
    config = small_config(variant)
    found, multipliers = config_from_keys(keys_of(config), tied=config.tie_embeddings)
    assert not multipliers
    expected = replace(
        config,
        pattern="".join(kind + "-" for kind, _, _ in layers_of(config.pattern)),
        feed_forward_size=feed_forward_size(config),
        chunk_size=found.chunk_size,  # a matter of speed, which no GGUF holds
    )
    if config.rope_scaling == "ntk":  # it is a larger theta
        expected = replace(expected, rope_scaling="none", rope_scaling_factor=1.0, rope_theta=found.rope_theta)
        assert found.rope_theta > config.rope_theta
    assert found == expected


def test_attention_layers_are_told_by_their_key_heads():
    assert keys_of(small_config("classic"))["granitehybrid.attention.head_count_kv"] == [0, 0, 2, 0, 2]


@pytest.mark.parametrize("position", ["rope", "nope"])
def test_the_switch_of_rotary_positions_is_the_key_named_finetuned(position):
    keys = keys_of(small_config(position=position))
    assert keys["granitehybrid.rope.scaling.finetuned"] is (position == "rope")


def test_the_scale_of_attention_is_explicit():
    assert keys_of(small_config())["granitehybrid.attention.scale"] == 64**-0.5


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("expert_count", 4, "num_local_experts is 4"),
        ("embedding_scale", -1.0, "embedding_multiplier is -1.0"),
        ("attention.head_count_kv", [0, 2, 4], "our model has one number for all attention layers"),
        ("rope.dimension_count", 32, "our model rotates whole heads"),
    ],
)
def test_what_our_model_does_not_compute_is_refused_by_name(key, value, message):
    with pytest.raises(ConfigError, match=message):
        config_from_keys({**keys_of(small_config()), f"granitehybrid.{key}": value}, tied=True)


def test_multipliers_are_told_under_the_names_of_transformers():
    given = {"embedding_scale": 12.0, "residual_scale": 0.25, "logit_scale": 8.0, "attention.scale": 0.015625}
    keys = keys_of(small_config()) | {f"{ARCHITECTURE}.{name}": value for name, value in given.items()}
    assert config_from_keys(keys, tied=True)[1] == {
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.25,
        "logits_scaling": 8.0,
        "attention_multiplier": 0.015625,
    }


def test_absent_optional_keys_mean_what_llama_cpp_takes_for_them():
    config = small_config()
    optional = ("attention.scale", "embedding_scale", "residual_scale", "logit_scale", "rope.scaling.finetuned")
    keys = {name: value for name, value in keys_of(config).items() if not name.endswith(optional)}
    assert config_from_keys(keys, tied=True) == (replace(config, chunk_size=256), {})
    keys["granitehybrid.attention.head_count_kv"] = 2  # one number: attention in every layer
    assert config_from_keys(keys, tied=True)[0].pattern == "*-*-*-"


def test_another_architecture_and_a_missing_key_are_named():
    keys = keys_of(small_config())
    with pytest.raises(DataError, match="a model of architecture 'llama'"):
        config_from_keys({**keys, "general.architecture": "llama"}, tied=True)
    del keys["granitehybrid.ssm.state_size"]
    with pytest.raises(DataError, match=r"the key granitehybrid\.ssm\.state_size is missing"):
        config_from_keys(keys, tied=True)


def test_a_rotation_that_llama_cpp_does_not_know_is_refused_by_name():
    config = replace(small_config(), rope_scaling="llama3", rope_scaling_factor=2.0)
    with pytest.raises(ConfigError, match="rope_scaling llama3 does not fit") as caught:
        keys_of(config)
    assert "--method ntk" in caught.value.hint
