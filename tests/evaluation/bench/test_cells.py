"""What is measured, and what a token needs at least."""

from dataclasses import replace

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.evaluation.bench.cells import (
    BenchSettings,
    Cell,
    cells,
    llama_of_equal_size,
    read_weight_bytes,
    tokens_per_round,
    work_per_token,
)
from mamba_slm.model.count import count_parameters, forward_flops_per_token, state_bytes, train_flops_per_token
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import SIZES, preset

NANO = preset("nano")


def test_every_task_length_and_precision_is_a_cell_and_short_ones_come_first():
    settings = BenchSettings(lengths=(64, 32), train_precisions=("bf16",), inference_precisions=("fp32", "bf16"))
    made = list(cells(settings, NANO))
    assert len(made) == 2 * (1 + 2 + 2)
    assert [str(cell) for cell in made[:2]] == ["train 32 tokens, bf16", "train 64 tokens, bf16"]
    assert str(made[-1]) == "decode after 64 tokens, bf16"


def test_lengths_beyond_the_context_are_refused_before_anything_runs():
    settings = BenchSettings(tasks=("decode",), lengths=(NANO.max_context_tokens - 32,), decode_tokens=32)
    with pytest.raises(ConfigError, match="do not fit"):
        list(cells(settings, NANO))
    assert len(list(cells(replace(settings, decode_tokens=31), NANO))) == 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"tasks": ("trian",)}, UnknownNameError),
        ({"peers": ("bamba",)}, UnknownNameError),
        ({"train_precisions": ("fp8",)}, UnknownNameError),
        ({"rounds": 0}, ConfigError),
        ({"lengths": ()}, ConfigError),
        ({"lengths": (1,)}, ConfigError),
    ],
)
def test_settings_that_measure_nothing_are_refused(wrong, error):
    with pytest.raises(error):
        BenchSettings(**wrong)


@pytest.mark.parametrize("name", SIZES)
def test_the_llama_has_equal_parameters_and_layers_and_a_width_that_hardware_likes(name):
    config = preset(name)
    llama = llama_of_equal_size(config)
    assert abs(count_parameters(llama).total / count_parameters(config).total - 1) <= 0.01
    assert llama.num_layers == config.num_layers
    assert llama.feed_forward_size % 16 == 0
    assert set(llama.pattern) == {"*", "-"}


def test_training_is_three_forward_passes_and_prefill_needs_the_head_once():
    cell = Cell(task="train", tokens=64, precision="bf16")
    assert work_per_token(NANO, cell, decode_tokens=1) == train_flops_per_token(NANO, 64)
    without_head = forward_flops_per_token(NANO, 64) - 2 * NANO.hidden_size * NANO.vocab_size
    per_token = work_per_token(NANO, replace(cell, task="prefill"), decode_tokens=1)
    assert 64 * per_token == pytest.approx(64 * without_head + 2 * NANO.hidden_size * NANO.vocab_size)


@pytest.mark.parametrize("tied", [True, False])
def test_decoding_reads_every_weight_but_the_rows_of_an_embedding_beside_the_head(tied):
    config = replace(NANO, tie_embeddings=tied)
    model = build_model(config)
    read = sum(p.numel() for name, p in model.named_parameters() if tied or name != "embedding.weight")
    assert read_weight_bytes(config, "fp32") == 4 * read
    assert read_weight_bytes(config, "bf16") == 2 * read
    cell = Cell(task="decode", tokens=100, precision="bf16")
    assert work_per_token(config, cell, decode_tokens=8) == 2 * read + state_bytes(config, 104, cache_bytes=2)


def test_a_round_of_decoding_makes_tokens_and_others_read_them():
    assert tokens_per_round(Cell(task="decode", tokens=100, precision="fp32"), decode_tokens=8) == 8
    assert tokens_per_round(Cell(task="prefill", tokens=100, precision="fp32"), decode_tokens=8) == 100
