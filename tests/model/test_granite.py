"""A model and the GraniteMoeHybrid it is: the same config and the same tensors. tests/conformance compares what the two
compute."""

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GraniteMoeHybridConfig
from transformers.models.granitemoehybrid.modeling_granitemoehybrid import GraniteMoeHybridRotaryEmbedding

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import from_granite_tensors, granite_config, rope_of, tensor_pairs, to_granite_tensors
from mamba_slm.model.granite_import import DEFAULTS, model_config_from_granite
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.ops.rope import rope_frequencies
from tolerances import assert_close, error_between, tolerance_of

CONFIG = ModelConfig(
    pattern="M-*-",
    vocab_size=61,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=48,
    state_size=16,
    ssm_head_dim=8,
    max_context_tokens=1024,
)
GRANITE = granite_config(CONFIG)


@st.composite
def expressible_configs(draw):
    """Any model that a GraniteMoeHybrid holds under its own names; NTK comes back as a larger theta."""
    num_kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    num_heads = num_kv_heads * draw(st.integers(1, 3))
    hidden_size = num_heads * draw(st.sampled_from([4, 8, 10]))
    position = draw(st.sampled_from(["rope", "nope"]))
    scaling = draw(st.sampled_from(["none", "linear", "yarn", "llama3"])) if position == "rope" else "none"
    return ModelConfig(
        pattern="".join(mixer + "-" for mixer in draw(st.text("M*", min_size=1, max_size=6))),
        vocab_size=draw(st.integers(1, 300)),
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        feed_forward_size=draw(st.integers(1, 300)),
        state_size=draw(st.integers(1, 64)),
        ssm_head_dim=hidden_size // groups,
        expand=draw(st.integers(1, 3)) * groups,
        conv_kernel=draw(st.integers(2, 5)),
        num_groups=groups,
        chunk_size=draw(st.integers(1, 300)),
        max_context_tokens=draw(st.integers(64, 10_000)),
        position=position,
        rope_theta=draw(st.floats(5_000, 1e6)),
        rope_scaling=scaling,
        rope_scaling_factor=1.0 if scaling == "none" else draw(st.floats(1.25, 8)),
        tie_embeddings=draw(st.booleans()),
        norm_eps=draw(st.floats(1e-8, 1e-3)),
    )


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(config=expressible_configs())
def test_a_config_comes_back_from_json_as_it_was(config):
    assert model_config_from_granite(json.loads(json.dumps(granite_config(config), allow_nan=False))) == config


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(config=expressible_configs())
def test_a_config_comes_back_from_transformers_as_it_was(config):
    theirs = GraniteMoeHybridConfig(**granite_config(config))
    assert model_config_from_granite(theirs.to_dict()) == config
    assert model_config_from_granite(json.loads(theirs.to_json_string())) == config


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(config=expressible_configs())
def test_every_tensor_has_one_name_on_each_side_and_the_same_size(config):
    pairs = list(tensor_pairs(config))
    ours = {name: tuple(tensor.shape) for name, tensor in build_model(config, device="meta").state_dict().items()}
    assert {pair.ours: pair.our_shape for pair in pairs} == ours
    assert len({pair.granite for pair in pairs}) == len(pairs)
    assert all(math.prod(pair.our_shape) == math.prod(pair.granite_shape) for pair in pairs)


@pytest.mark.parametrize("name", SIZES)
def test_every_portable_preset_comes_back_as_it_was(name):
    config = preset(name, layout="portable")
    assert model_config_from_granite(granite_config(config)) == config


def test_the_defaults_of_absent_keys_are_those_of_transformers():
    theirs = GraniteMoeHybridConfig()
    for key, value in DEFAULTS.items():
        if value is None or value == "auto":
            continue
        found = getattr(theirs, key)
        assert (tuple(found) if isinstance(found, list) else found) == value, key
    short = {
        key: value for key, value in GRANITE.items() if key not in ("mamba_d_head", "layer_types", "rope_parameters")
    }
    short |= {"num_key_value_heads": None, "rope_theta": None}
    filled = GraniteMoeHybridConfig(**{key: value for key, value in short.items() if key != "rope_theta"})
    assert model_config_from_granite(short) == model_config_from_granite(filled.to_dict())


def test_every_key_is_spelled_as_all_runtimes_read_it():
    assert GRANITE["architectures"] == ["GraniteMoeHybridForCausalLM"]
    assert GRANITE["layer_types"] == ["mamba", "attention"]
    assert GRANITE["time_step_limit"] == [0.0, 65504.0]
    assert GRANITE["attention_multiplier"] == 8**-0.5
    assert GRANITE["rope_theta"] == GRANITE["rope_parameters"]["rope_theta"] == 500_000.0
    assert GRANITE["shared_intermediate_size"] == GRANITE["intermediate_size"] == 48
    assert GRANITE["num_local_experts"] == GRANITE["num_experts_per_tok"] == 0
    assert granite_config(replace(CONFIG, position="nope"))["position_embedding_type"] == "nope"
    assert {GRANITE[f"{name}_token_id"] for name in ("bos", "eos", "pad")} == {None}


def test_transformers_knows_every_key_that_is_written():
    known = set(GraniteMoeHybridConfig().to_dict())
    assert set(GRANITE) - known == {"rope_theta"}  # SGLang reads it flat


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_types": ["linear_attention", "full_attention"]},
        {"layer_types": None, "layers_block_type": ["mamba", "attention"]},
        {"rope_theta": None},
        {"rope_parameters": None},
        {"rope_parameters": {"rope_theta": 500_000.0}},
        {"time_step_limit": [0.0, math.inf]},
        {"time_step_limit": [0.0, {"__float__": "Infinity"}]},
        {"mamba_d_head": "auto"},
        {"head_dim": 8},
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 1.0}},
    ],
    ids=str,
)
def test_every_spelling_of_the_same_model_is_read(changes):
    assert model_config_from_granite(GRANITE | changes) == CONFIG


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "bamba"),
        ("num_local_experts", 8),
        ("embedding_multiplier", 12.0),
        ("residual_multiplier", 0.22),
        ("logits_scaling", 8.0),
        ("attention_multiplier", 1.0),
        ("attention_multiplier", 1 / 8),
        ("attention_bias", True),
        ("mamba_conv_bias", False),
        ("mamba_proj_bias", True),
        ("hidden_act", "gelu"),
        ("time_step_limit", [0.0, 100.0]),
        ("time_step_limit", [0.001, math.inf]),
        ("time_step_limit", None),
        ("position_embedding_type", "alibi"),
        ("layer_types", ["mamba", "sliding_attention"]),
        ("layer_types", ["mamba"]),
        ("head_dim", 16),
        ("mamba_d_head", 16),
        ("partial_rotary_factor", 0.5),
        ("rope_theta", 10_000.0),
        ("rope_parameters", {"rope_type": "longrope", "rope_theta": 500_000.0, "factor": 8.0}),
        ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 500_000.0}}),
        ("rope_parameters", {"rope_type": "linear", "rope_theta": 500_000.0, "factor": 0.5}),
        ("quantization_config", {"bits": 4}),
        ("vocab_size", "61"),
        ("shared_intermediate_size", 0),
        ("rms_norm_eps", 0),
        ("tie_word_embeddings", None),
    ],
)
def test_another_function_is_refused_by_the_name_of_its_key(key, value):
    with pytest.raises(ConfigError, match=key):
        model_config_from_granite(GRANITE | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("original_max_position_embeddings", 512),
        ("attention_factor", 1.0),
        ("beta_fast", 64),
        ("beta_slow", 2),
        ("truncate", False),
        ("mscale", 1.0),
    ],
)
def test_a_yarn_with_other_constants_is_refused(key, value):
    yarn = granite_config(replace(CONFIG, rope_scaling="yarn", rope_scaling_factor=4.0))["rope_parameters"]
    assert model_config_from_granite(GRANITE | {"rope_parameters": yarn}).rope_scaling == "yarn"
    with pytest.raises(ConfigError, match=key):
        model_config_from_granite(GRANITE | {"rope_parameters": yarn | {key: value}})


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": "MM*-"},
        {"pattern": "M--"},
        {"position": "alibi"},
        {"position": "learned"},
        {"attention_window": 64},
    ],
    ids=str,
)
def test_a_model_that_does_not_fit_is_refused_by_the_name_of_its_setting(changes):
    config = replace(CONFIG, **changes)
    for refuse in (granite_config, lambda c: to_granite_tensors({}, c), lambda c: from_granite_tensors({}, c)):
        with pytest.raises(ConfigError, match=next(iter(changes))) as raised:
            refuse(config)
        assert raised.value.hint


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    scaling=st.sampled_from(["none", "linear", "ntk", "yarn", "llama3"]),
    head_dim=st.integers(2, 40).map(lambda half: 2 * half),
    theta=st.floats(1.5, 1e6),
    factor=st.floats(1.25, 40),
    context=st.integers(2, 100_000),
)
def test_whatever_rotation_is_not_refused_has_transformers_frequencies(scaling, head_dim, theta, factor, context):
    config = replace(
        CONFIG,
        hidden_size=4 * head_dim,
        max_context_tokens=context,
        rope_theta=theta,
        rope_scaling=scaling,
        rope_scaling_factor=factor,
    )
    original = round(context / factor)
    try:
        written = GraniteMoeHybridConfig(**granite_config(config))
    except ConfigError as error:
        assert scaling == "yarn" and "rope_scaling yarn" in error.message
        return
    ours, scale = rope_frequencies(
        head_dim, theta=theta, scaling=scaling, factor=factor, original_context_tokens=original
    )
    theirs = GraniteMoeHybridRotaryEmbedding(written)
    assert_close(ours, theirs.inv_freq, tolerance_of("rope").values)
    assert scale == pytest.approx(theirs.attention_scaling)


def test_a_yarn_that_transformers_computes_otherwise_is_refused():
    """Its ramp would run backwards: transformers turns it round, we stop at its start."""
    config = replace(CONFIG, max_context_tokens=16, rope_theta=2.0, rope_scaling="yarn", rope_scaling_factor=4.0)
    yarn = {"rope_type": "yarn", "rope_theta": 2.0, "factor": 4.0, "original_max_position_embeddings": 4}
    ours, _ = rope_frequencies(8, theta=2.0, scaling="yarn", factor=4.0, original_context_tokens=4)
    written = GraniteMoeHybridConfig(**GRANITE | {"max_position_embeddings": 16, "rope_parameters": yarn})
    assert error_between(GraniteMoeHybridRotaryEmbedding(written).inv_freq, ours) > 0.1
    for refused in (config, replace(config, max_context_tokens=1)):
        with pytest.raises(ConfigError, match="rope_scaling yarn"):
            rope_of(refused)


def test_a_window_as_long_as_the_context_is_no_window():
    assert granite_config(replace(CONFIG, attention_window=1024)) == GRANITE


def test_ntk_scaling_is_written_as_a_larger_theta():
    written = granite_config(replace(CONFIG, rope_scaling="ntk", rope_scaling_factor=4.0))
    assert written["rope_parameters"]["rope_type"] == "default"
    assert written["rope_theta"] == pytest.approx(500_000.0 * 4 ** (8 / 6))


@pytest.fixture(scope="module")
def tensors():
    return build_model(CONFIG).state_dict()


def test_export_and_import_are_views_and_give_back_every_bit(tensors):
    theirs = to_granite_tensors(tensors, CONFIG)
    back = from_granite_tensors(theirs, CONFIG)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)
        assert back[name].data_ptr() == tensor.data_ptr()
    assert theirs["model.layers.0.mamba.conv1d.weight"].shape == (CONFIG.conv_size, 1, 4)
    assert "lm_head.weight" not in theirs


def test_a_head_beside_a_tied_embedding_must_be_the_embedding(tensors):
    theirs = to_granite_tensors(tensors, CONFIG)
    head = theirs["model.embed_tokens.weight"].clone()
    assert "lm_head.weight" not in from_granite_tensors(theirs | {"lm_head.weight": head}, CONFIG)
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs"):
        from_granite_tensors(theirs | {"lm_head.weight": head + 1}, CONFIG)


@pytest.mark.parametrize("convert", [to_granite_tensors, from_granite_tensors])
def test_a_missing_unknown_or_misshaped_tensor_is_named(convert, tensors):
    given = tensors if convert is to_granite_tensors else to_granite_tensors(tensors, CONFIG)
    name = list(given)[5]
    missing = {key: value for key, value in given.items() if key != name}
    misshaped = given | {name: torch.cat([given[name]] * 2)}
    unknown = given | {"stranger": torch.zeros(1)}
    for wrong, named in ((missing, f"{name} is missing"), (misshaped, f"{name} is"), (unknown, "stranger is")):
        with pytest.raises(CheckpointError, match=named):
            convert(wrong, CONFIG)


def test_configs_are_converted_without_torch_and_transformers():
    code = (
        "import sys; from mamba_slm.model.granite import granite_config, to_granite_tensors; "
        "from mamba_slm.model.granite_import import model_config_from_granite; "
        "from mamba_slm.model.config import ModelConfig; "
        f"config = ModelConfig(**{asdict(CONFIG)}); "
        "assert model_config_from_granite(granite_config(config)) == config; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
