"""A config rejects early what cannot work, naming the setting."""

import ast
import inspect
from dataclasses import FrozenInstanceError, fields, replace
from itertools import pairwise

import pytest

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.config import ModelConfig

SMALL = ModelConfig(
    pattern="M-*-",
    vocab_size=50,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=48,
    state_size=8,
    ssm_head_dim=8,
)


def test_what_was_written_down_is_read_as_the_same_config():
    assert from_dict(ModelConfig, to_dict(SMALL), where="config.json") == SMALL


def test_the_pattern_is_stored_expanded():
    assert replace(SMALL, pattern="M3*-2").pattern == "MMM*--"


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SMALL.hidden_size = 5


def test_derived_sizes_follow_from_the_settings():
    config = replace(SMALL, pattern="MM*-", num_groups=2, expand=3)
    assert (config.head_dim, config.inner_size, config.num_ssm_heads) == (8, 96, 12)
    assert config.conv_size == 96 + 2 * 2 * 8
    assert config.in_proj_size == 2 * 96 + 2 * 2 * 8 + 12
    assert (config.num_layers, config.num_mamba, config.num_attention, config.num_feed_forward) == (3, 2, 1, 1)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("vocab_size", 0, "vocab_size must be at least 1, got 0"),
        ("hidden_size", -4, "hidden_size must be at least 1, got -4"),
        ("max_context_tokens", 0, "max_context_tokens must be at least 1"),
        ("num_heads", 5, r"hidden_size \(32\) must be a multiple of num_heads \(5\)"),
        ("num_kv_heads", 3, r"num_heads \(4\) must be a multiple of num_kv_heads \(3\)"),
        ("ssm_head_dim", 7, r"expand \* hidden_size \(64\) must be a multiple of ssm_head_dim \(7\)"),
        ("num_groups", 3, r"the number of SSM heads \(8\) must be a multiple of num_groups \(3\)"),
        ("conv_kernel", 1, "conv_kernel must be at least 2, got 1"),
        ("num_heads", 32, "rotary positions need an even head size, got hidden_size / num_heads = 1"),
        ("rope_scaling", "yarn", "rope_scaling_factor must be above 1"),
        ("attention_window", -1, "attention_window must be 0"),
        ("pattern", "M-y", "unknown sublayer 'y' at position 2"),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting, value, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **{setting: value, **({"num_kv_heads": 1} if setting == "num_heads" else {})})


@pytest.mark.parametrize(
    ("setting", "value", "nearest"), [("position", "rop", "rope"), ("rope_scaling", "yarm", "yarn")]
)
def test_a_misspelt_choice_suggests_the_nearest(setting, value, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean '{nearest}'"):
        replace(SMALL, **{setting: value})


def test_every_field_is_documented():
    body = ast.parse(inspect.getsource(ModelConfig)).body[0].body
    documented = {
        before.target.id
        for before, after in pairwise(body)
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    assert documented == {field.name for field in fields(ModelConfig)}
