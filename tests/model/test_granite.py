"""A model and the GraniteMoeHybrid it is: the same config and the same tensors, both ways."""

import pytest
import torch

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import granite_config, to_granite_tensors
from mamba_slm.model.init import build_model

CONFIG = ModelConfig(
    pattern="M-*-",
    vocab_size=61,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=48,
    state_size=16,
    ssm_head_dim=8,
)


def test_the_config_spells_layers_as_every_runtime_reads_them():
    assert granite_config(CONFIG)["layer_types"] == ["mamba", "attention"]


def test_the_tensors_are_views_of_ours():
    ours = build_model(CONFIG).state_dict()
    theirs = to_granite_tensors(ours, CONFIG)
    assert theirs["model.layers.0.mamba.conv1d.weight"].data_ptr() == ours["sublayers.0.mixer.conv_weight"].data_ptr()


def test_a_missing_tensor_is_named():
    with pytest.raises(CheckpointError, match=r"embedding.weight is missing"):
        to_granite_tensors({"x": torch.zeros(1)}, CONFIG)


def test_a_pattern_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="pattern MM"):
        granite_config(ModelConfig(**{**CONFIG.__dict__, "pattern": "MM*-"}))
