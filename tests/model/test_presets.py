"""The named sizes: they build in both layouts, and have the parameters they publish."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import (
    count_parameters,
    forward_flops_per_token,
    state_bytes,
    train_flops_per_token,
    weight_bytes,
)
from mamba_slm.model.init import build_model
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.pattern import LAYOUTS, is_portable_pattern
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.model.state import InferenceState
from tolerances import tolerance_of

PUBLISHED = tolerance_of("published parameter count", "exact").values


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SIZES)
def test_every_preset_builds_and_counts_exactly_what_it_allocates(name, layout):
    config = preset(name, layout=layout)
    model = build_model(config, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert count_parameters(config).total == sum(parameter.numel() for parameter in model.parameters())
    assert is_portable_pattern(config.pattern) is (layout == "portable")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("position", ["rope", "nope", "alibi", "learned"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_count_is_exact_for_every_kind_of_position_and_head(layout, position, tied):
    config = preset("nano", layout=layout, position=position, tie_embeddings=tied, num_groups=2, conv_kernel=3)
    model = build_model(config, device="meta")
    assert count_parameters(config).total == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "billions"), [("1.3B", 1.44), ("2.7B", 2.56), ("6.7B", 5.96), ("13B", 10.66)])
def test_the_large_sizes_have_their_published_parameters(name, billions):
    total = count_parameters(preset(name, layout="portable")).total
    assert total / (billions * 1e9) == pytest.approx(1, abs=PUBLISHED)


@pytest.mark.parametrize(
    ("name", "layout", "published"),
    [
        ("1.3B", "portable", "1.440B"),
        ("2.7B", "portable", "2.541B"),
        ("6.7B", "portable", "5.954B"),
        ("13B", "portable", "10.72B"),
        ("1.3B", "classic", "1.43B"),
        ("2.7B", "classic", "2.54B"),
        ("6.7B", "classic", "5.87B"),
        ("13B", "classic", "10.74B"),
        ("60M", "portable", "61.1M"),
        ("demo", None, "68.7M"),
    ],
)
def test_the_table_of_the_documentation_is_right_in_every_digit(name, layout, published):
    total = count_parameters(preset(name, layout=layout)).total
    unit, digits = {"B": 1e9, "M": 1e6}[published[-1]], len(published.split(".")[1]) - 1
    assert f"{total / unit:.{digits}f}{published[-1]}" == published


@pytest.mark.parametrize(("name", "gibibytes"), [("1.3B", 2.68), ("2.7B", 4.73), ("6.7B", 11.09), ("13B", 19.96)])
def test_bf16_weights_take_the_memory_the_table_says(name, gibibytes):
    assert round(weight_bytes(preset(name, layout="portable")) / 2**30, 2) == gibibytes


def test_the_small_sizes_are_about_what_their_purpose_says():
    assert 1e6 < count_parameters(preset("nano")).total < 3e6
    assert 9e6 < count_parameters(preset("tiny")).total < 11e6
    assert 100e6 < count_parameters(preset("125M")).total < 150e6
    assert 300e6 < count_parameters(preset("350M")).total < 400e6


def test_the_published_placements_are_those_of_the_design():
    layers = [i for i, mixer in enumerate(preset("1.3B").pattern.replace("-", "")) if mixer == "*"]
    assert layers == [1, 2, 6, 11, 16, 21, 22, 23]
    layers = [i for i, mixer in enumerate(preset("60M").pattern.replace("-", "")) if mixer == "*"]
    assert layers == [0, 1, 5, 10]
    assert preset("demo").pattern.replace("-", "").count("*") == 2


@pytest.mark.parametrize("name", ["1.3B", "2.7B", "6.7B", "13B"])
def test_the_large_sizes_share_the_settings_of_the_design(name):
    config = preset(name)
    assert (config.vocab_size, config.max_context_tokens) == (128_256, 8192)
    assert (config.state_size, config.ssm_head_dim, config.expand, config.conv_kernel) == (128, 64, 2, 4)
    assert (config.num_groups, config.chunk_size, config.position, config.tie_embeddings) == (1, 256, "rope", True)
    classic = preset(name, layout="classic")
    assert (classic.tie_embeddings, classic.feed_forward_size) == (False, 4 * classic.hidden_size)


def test_the_vocabulary_follows_the_tokenizer():
    assert preset("nano", vocab_size=777).vocab_size == 777


def test_any_setting_of_the_model_can_be_overridden():
    config = preset("nano", position="alibi", attention_window=64, placement="0,2")
    assert (config.position, config.attention_window, config.pattern) == ("alibi", 64, "*-M-*-")
    assert preset("nano", pattern="M2*-").pattern == "MM*-"


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'nano'"):
        preset("nanp")
    with pytest.raises(UnknownNameError, match="did you mean 'hidden_size'"):
        preset("nano", hiden_size=3)
    with pytest.raises(UnknownNameError, match="did you mean 'portable'"):
        preset("nano", layout="portabel")
    with pytest.raises(ConfigError, match="must be a multiple of num_heads"):
        preset("nano", num_heads=7, num_kv_heads=1)


def test_sizes_and_counts_need_no_torch():
    code = (
        "import sys; from mamba_slm.model.presets import preset; from mamba_slm.model.count import count_parameters;"
        "from mamba_slm.model.portability import portability_issues;"
        "str(count_parameters(preset('13B'))), portability_issues(preset('13B'));"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_count_prints_itself_by_part():
    text = str(count_parameters(preset("60M")))
    assert text.startswith("61.1M parameters (embedding 16.4M, mamba ")


@pytest.mark.parametrize("window", [0, 16])
def test_flops_are_those_that_pytorch_counts_for_the_matrix_products(window):
    """Attention is counted over the visible half, PyTorch over all; the convolution is not a product there.

    On the `chunked` scan, which has the config's chunks; the scan that CPUs take has smaller ones.
    """
    from torch.utils.flop_counter import FlopCounterMode

    config = replace(preset("nano", vocab_size=512, chunk_size=16), pattern="M-M-", attention_window=window)
    model, t = build_model(config), 64
    for module in model.modules():
        if isinstance(module, Mamba2):
            module.scan_backend = "chunked"
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, t, dtype=torch.int64))
    convolution = config.num_mamba * 2 * config.conv_kernel * config.conv_size
    assert counter.get_total_flops() / t == pytest.approx(forward_flops_per_token(config, t), abs=convolution + 1)


def test_training_costs_three_times_the_forward_and_long_contexts_cost_more():
    config = preset("60M")
    assert train_flops_per_token(config, 4096) == 3 * forward_flops_per_token(config, 4096)
    assert forward_flops_per_token(config, 8192) > forward_flops_per_token(config, 4096)
    windowed = preset("60M", attention_window=1024)
    assert forward_flops_per_token(windowed, 8192) == forward_flops_per_token(windowed, 4096)


@pytest.mark.parametrize("window", [0, 32])
def test_state_bytes_are_those_of_a_real_state(window):
    config = preset("nano", attention_window=window)
    state = InferenceState.empty(config, 1, device=torch.device("cpu"), dtype=torch.bfloat16)
    state.reserve(256)
    assert state.positions.shape[1] == 256
    bookkeeping = sum(m.numel() * m.element_size() for m in (state.num_tokens, state.positions, state.valid))
    assert state.num_bytes - bookkeeping == state_bytes(config, 256)


def test_a_config_of_a_model_survives_the_way_to_other_processes():
    for name in SIZES:
        assert from_dict(ModelConfig, to_dict(preset(name))) == preset(name)
