"""What a token needs at least."""

from dataclasses import replace

import pytest

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.work import read_weight_bytes, step_bytes, tokens_per_round, work_per_token
from mamba_slm.model.count import forward_flops_per_token, state_bytes, train_flops_per_token
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset

NANO = preset("nano")


def test_training_is_three_forward_passes_and_prefill_needs_the_head_once():
    cell = Cell(task="train", tokens=64, precision="bf16")
    assert work_per_token(NANO, cell, "ours", decode_tokens=1) == train_flops_per_token(NANO, 64)
    without_head = forward_flops_per_token(NANO, 64) - 2 * NANO.hidden_size * NANO.vocab_size
    per_token = work_per_token(NANO, replace(cell, task="prefill"), "ours", decode_tokens=1)
    assert 64 * per_token == pytest.approx(64 * without_head + 2 * NANO.hidden_size * NANO.vocab_size)


@pytest.mark.parametrize("tied", [True, False])
def test_decoding_reads_every_weight_but_the_rows_of_an_embedding_beside_the_head(tied):
    config = replace(NANO, tie_embeddings=tied)
    model = build_model(config)
    read = sum(p.numel() for name, p in model.named_parameters() if tied or name != "embedding.weight")
    assert read_weight_bytes(config, "fp32") == 4 * read
    assert read_weight_bytes(config, "bf16") == 2 * read
    cell = Cell(task="decode", tokens=100, precision="bf16")
    assert work_per_token(config, cell, "ours", decode_tokens=8) == 2 * read + state_bytes(config, 104, cache_bytes=2)


def test_a_round_of_decoding_makes_tokens_and_others_read_them():
    assert tokens_per_round(Cell(task="decode", tokens=100, precision="fp32"), decode_tokens=8) == 8
    assert tokens_per_round(Cell(task="prefill", tokens=100, precision="fp32"), decode_tokens=8) == 100
    assert tokens_per_round(Cell(task="decode", tokens=100, precision="fp32", batch=3), decode_tokens=8) == 24


def test_a_batch_shares_the_weights_and_every_row_has_its_state():
    one = Cell(task="decode", tokens=100, precision="fp32")
    weights = read_weight_bytes(NANO, "fp32")
    step = step_bytes(NANO, replace(one, batch=8), "ours", decode_tokens=0)
    assert step - weights == 8 * (step_bytes(NANO, one, "ours", decode_tokens=0) - weights)
    assert work_per_token(NANO, replace(one, batch=8), "ours", decode_tokens=0) == step / 8


def test_weights_count_in_the_precision_of_the_contender_or_as_it_says():
    cell = Cell(task="decode", tokens=0, precision="fp32")
    parameters = read_weight_bytes(NANO, "fp32") / 4
    state = step_bytes(NANO, cell, "ours-bf16", decode_tokens=0) - 2 * parameters
    assert step_bytes(NANO, cell, "ours-int4", decode_tokens=0) == pytest.approx(parameters / 2 + state, abs=1)
    assert step_bytes(NANO, cell, "ours-int4", decode_tokens=0, weight_bytes=1000) == pytest.approx(1000 + state)


def test_the_work_of_a_token_is_that_of_the_engines_own_weights_and_cache():
    cell = Cell(task="decode", tokens=1000, precision="fp32")
    works = {
        name: work_per_token(preset("60M"), cell, name, weight_bytes=1_000, decode_tokens=0)
        for name in ("onnx-int8", "llama.cpp-q8_0")
    }
    keys_and_values = 4 * 2 * 2 * 64 * 1000  # layers, key and value, heads, head dim, tokens
    assert works["onnx-int8"] - works["llama.cpp-q8_0"] == pytest.approx(2 * keys_and_values, rel=0.05)  # and windows
