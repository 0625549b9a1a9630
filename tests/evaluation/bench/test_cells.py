"""What is measured: cells in an order, contenders in cells, and how often they are timed."""

from dataclasses import replace

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.evaluation.bench.cells import BenchSettings, Cell, cells, contenders_of, context_needed
from mamba_slm.model.presets import preset

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
        ({"batches": ()}, ConfigError),
        ({"batches": (0,)}, ConfigError),
        ({"variants": ("ours-int7",)}, UnknownNameError),
    ],
)
def test_settings_that_measure_nothing_are_refused(wrong, error):
    with pytest.raises(error):
        BenchSettings(**wrong)


def test_prefill_needs_room_for_the_token_that_it_chooses_and_training_for_none():
    lengths = {"lengths": (64,), "decode_tokens": 8}
    assert context_needed(BenchSettings(tasks=("train",), **lengths)) == 64
    assert context_needed(BenchSettings(tasks=("prefill",), **lengths)) == 65
    assert context_needed(BenchSettings(tasks=("train", "decode"), **lengths)) == 73


def test_batches_are_for_decoding_and_lengths_can_come_first():
    settings = BenchSettings(
        tasks=("decode", "prefill"), lengths=(32, 16), batches=(1, 4), inference_precisions=("fp32",), by_length=True
    )
    made = [(cell.tokens, cell.task, cell.batch) for cell in cells(settings, NANO)]
    assert made[:3] == [(16, "decode", 1), (16, "decode", 4), (16, "prefill", 1)]
    assert [tokens for tokens, _, _ in made] == [16] * 3 + [32] * 3
    assert str(next(cell for cell in cells(settings, NANO) if cell.batch == 4)) == (
        "decode of 4 sequences after 16 tokens, fp32"
    )


def test_other_weights_stand_beside_ours_in_fp32_inference_and_a_batch_has_no_llama_cpp():
    settings = BenchSettings(
        peers=("granite",), variants=("ours-bf16",), engines=("onnx-int8", "llama.cpp-q8_0"), plain=True
    )
    decode = Cell(task="decode", tokens=8, precision="fp32")
    assert contenders_of(settings, decode) == (
        "ours", "plain", "ours-bf16", "granite", "onnx-int8", "llama.cpp-q8_0"
    )  # fmt: skip
    assert contenders_of(settings, replace(decode, batch=2)) == ("ours", "ours-bf16", "granite", "onnx-int8")
    assert contenders_of(settings, replace(decode, precision="bf16")) == ("ours", "plain", "granite")
    assert contenders_of(settings, replace(decode, task="train")) == ("ours", "granite")


def test_a_contender_that_takes_long_is_timed_less_often_but_once():
    settings = BenchSettings(rounds=5, long_seconds=10, long_rounds=2, very_long_seconds=20)
    assert [settings.rounds_of(seconds) for seconds in (9, 11, 21)] == [5, 2, 1]
    assert replace(settings, rounds=1).rounds_of(11) == 1
