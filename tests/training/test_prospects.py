"""Promises about what is said beside an estimate: what fits, what is kept, from where on a hybrid needs less."""

import dataclasses
import json

import pytest

from mamba_slm.core.hardware import SPOT_PRICE_SHARE, find_gpu
from mamba_slm.model.count import (
    context_of_equal_flops,
    count_parameters,
    forward_flops_by_part,
    forward_flops_per_token,
    state_bytes,
)
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.training.estimate import estimate_training
from mamba_slm.training.memory_estimate import estimate_memory
from mamba_slm.training.prospects import prospects
from mamba_slm.training.spread import Spread

SETTINGS = {"context_tokens": 2048, "precision": "bf16", "gradient_checkpointing": True}


def spread_over(devices):
    return Spread() if devices == 1 else Spread(engine="fsdp", processes=devices)


def plan_and_prospects(name="1.3B", *, gpu="A100 80GB", devices=8, **changes):
    config = preset(name)
    settings = {**SETTINGS, **changes}
    plan = estimate_training(
        config,
        batch_tokens=2**20,
        rows_at_once=1,
        tokens=10**10,
        gpu=find_gpu(gpu),
        spread=spread_over(devices),
        **settings,
    )
    return config, plan, prospects(config, plan, on_gpu=True, **settings)


@pytest.mark.parametrize("name", ["nano", "125M", "1.3B", "13B"])
def test_the_largest_micro_batch_fits_and_one_more_row_does_not(name):
    config, plan, found = plan_and_prospects(name)

    def memory(rows):
        return estimate_memory(config, rows_at_once=rows, spread=spread_over(8), on_gpu=True, **SETTINGS).total

    assert memory(found.largest_rows_at_once) <= plan.device_memory_bytes < memory(found.largest_rows_at_once + 1)


def test_it_says_when_not_even_one_row_fits():
    _, _, found = plan_and_prospects("13B", gpu="T4", devices=1)
    assert found.largest_rows_at_once == 0
    assert "not even one row fits" in str(found)


def test_the_parts_of_the_flops_sum_up_to_all():
    for name in SIZES:
        config = preset(name)
        for context in (17, 512, 8192):
            assert sum(forward_flops_by_part(config, context).values()) == forward_flops_per_token(config, context)


@pytest.mark.parametrize("name", ["nano", "60M", "1.3B"])
def test_beyond_the_context_of_equal_flops_a_twin_of_equal_size_needs_more(name):
    config = preset(name)
    length = context_of_equal_flops(config)
    twin = dataclasses.replace(config, pattern=config.pattern.replace("M", "*"))
    spare = count_parameters(config).total - count_parameters(twin).total  # goes into feed-forwards, 2 FLOPs each

    def twin_needs_more(context):
        return forward_flops_per_token(twin, context) + 2 * spare > forward_flops_per_token(config, context)

    assert twin_needs_more(length) and not twin_needs_more(length - 1)


def test_without_mamba_layers_nothing_is_cheaper():
    assert context_of_equal_flops(preset("nano", pattern="*-*-")) is None


def test_a_checkpoint_is_twelve_bytes_a_parameter_and_what_is_kept_costs_by_the_month():
    config, plan, found = plan_and_prospects()
    parameters = count_parameters(config).total
    assert found.checkpoint_bytes == 12 * parameters
    assert found.stored_bytes == 4 * 12 * parameters + 4 * parameters
    longer = estimate_training(
        config,
        batch_tokens=2**20,
        rows_at_once=1,
        tokens=3 * 10**10,
        gpu=find_gpu("A100 80GB"),
        spread=spread_over(8),
        **SETTINGS,
    )
    assert prospects(config, longer, on_gpu=True, **SETTINGS).storage_usd == pytest.approx(3 * found.storage_usd)
    assert found.spot_usd == pytest.approx(SPOT_PRICE_SHARE * plan.cost_usd)


def test_a_sequence_keeps_what_the_model_says():
    config, _, found = plan_and_prospects()
    assert found.sequence_bytes == state_bytes(config, 2048) < found.attention_only_sequence_bytes


def test_it_is_plain_json_and_prints_every_part():
    _, _, found = plan_and_prospects()
    assert json.loads(json.dumps(found.to_dict()))["largest_rows_at_once"] == found.largest_rows_at_once
    for word in ("FLOPs", "sequence", "storage", "spot", "largest", "(assumed)"):
        assert word in str(found)


def test_a_cpu_without_a_price_gets_no_costs():
    config = preset("nano")
    settings = {"context_tokens": 512, "precision": "fp32", "gradient_checkpointing": False}
    plan = estimate_training(config, batch_tokens=2048, rows_at_once=1, tokens=10**6, **settings)
    found = prospects(config, plan, on_gpu=False, **settings)
    assert found.storage_usd is None and found.spot_usd is None and found.largest_rows_at_once is None
    assert "$" not in str(found)
