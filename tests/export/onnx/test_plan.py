"""Which matrix gets how many bits, and blocks that fit the model."""

from dataclasses import replace

import pytest

from export.onnx.onnx_models import small_config
from mamba_slm.core.errors import ConfigError
from mamba_slm.export.onnx.plan import plan_weights
from mamba_slm.model.presets import preset


def test_the_largest_block_up_to_the_default_that_divides_every_matrix_is_chosen():
    assert plan_weights(preset("60M"), "int8").block_size == 128
    assert plan_weights(preset("60M"), "int4").block_size == 128
    assert plan_weights(small_config(), "int8").block_size == 16
    assert plan_weights(replace(small_config(), feed_forward_size=64), "int8").block_size == 32


def test_four_bits_spare_the_matrices_that_suffer_most():
    plan = plan_weights(preset("60M"), "int4")
    names = [
        "embedding.weight",
        "lm_head.weight",
        "sublayers.0.mixer.in_proj.weight",
        "sublayers.0.mixer.out_proj.weight",
    ]
    assert [plan.bits_of(name) for name in names] == [8, 8, 8, 4]
    fine = plan_weights(preset("60M"), "int4", 32)
    assert [fine.block_size_of(name) for name in names] == [128, 128, 128, 32]
    assert {plan_weights(preset("60M"), "int8", 32).block_size_of(name) for name in names} == {32}
    assert {plan_weights(preset("60M"), "fp32").bits_of(name) for name in names} == {32}
    assert {plan_weights(preset("60M"), "int8").bits_of(name) for name in names} == {8}


@pytest.mark.parametrize(
    ("change", "weights", "block_size", "message"),
    [
        ({}, "fp32", 32, "fp32 weights have no blocks"),
        ({}, "int8", 48, "block size 48 is not possible"),
        ({}, "int8", 32, "feed_forward_size is 48, not a multiple of the block size 32"),
        ({"feed_forward_size": 40}, "int4", None, "feed_forward_size is 40, not a multiple of the block size 16"),
    ],
)
def test_blocks_that_do_not_fit_are_refused_by_the_setting(change, weights, block_size, message):
    with pytest.raises(ConfigError, match=message):
        plan_weights(replace(small_config(), **change), weights, block_size)


def test_a_model_without_feed_forwards_does_not_care_about_their_size():
    config = replace(small_config("no attention"), pattern="M", feed_forward_size=40)
    assert plan_weights(config, "int8").block_size == 32
