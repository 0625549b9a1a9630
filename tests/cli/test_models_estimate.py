import json

import pytest

from mamba_slm.cli.main import main
from mamba_slm.core.hardware import GPUS
from mamba_slm.model.presets import SIZES


def estimate(capsys, *words):
    assert main(["models", "estimate", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("layout", ["portable", "classic"])
def test_every_preset_is_estimated_in_both_layouts(capsys, name, layout):
    answer = estimate(capsys, name, "--layout", layout, "--gpus", "8")
    assert answer["name"] == name
    assert answer["layout"] == layout
    assert answer["memory_bytes"] == pytest.approx(sum(answer["memory"].values()), abs=1)
    assert answer["tokens"] == 20 * answer["parameters"]
    assert answer["seconds"] == pytest.approx(answer["tokens"] / answer["tokens_per_second"])
    assert answer["cost_usd"] == pytest.approx(answer["seconds"] / 3600 * 8 * GPUS["H100 80GB"].price_per_hour_usd)


def test_text_and_json_say_how_the_numbers_were_obtained(capsys):
    assert main(["models", "estimate", "1.3B", "--gpus", "8", "--gpu", "a100-80gb", "--tokens", "3B"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("1.3B on 8 × A100 80GB, bf16, gradient checkpointing\n")
    assert "fits in 80.0 GiB" in text
    assert "312 TFLOP/s bf16 (NVIDIA A100 data sheet, SXM) at 30% MFU (assumed)" in text
    assert "$1.60 per device and hour (assumed, not a quote: give yours with --price)" in text


def test_more_gpus_take_less_time_and_hold_less_each(capsys):
    one, eight = (estimate(capsys, "1.3B", "--gpus", n, "--engine", "fsdp", "--tokens", "1B") for n in ("1", "8"))
    assert eight["seconds"] == pytest.approx(one["seconds"] / 8)
    assert eight["memory"]["optimizer"] == pytest.approx(one["memory"]["optimizer"] / 8)
    assert eight["cost_usd"] == pytest.approx(one["cost_usd"])


def test_options_change_what_they_name(capsys):
    plain = estimate(capsys, "125M", "--gpus", "1", "--tokens", "1B")
    assert estimate(capsys, "125M", "--gpus", "1", "--tokens", "1B", "--mfu", "60%")["seconds"] == pytest.approx(
        plain["seconds"] / 2
    )
    assert estimate(capsys, "125M", "--gpus", "1", "--price", "1", "--tokens", "1B")["cost_usd"] == pytest.approx(
        plain["seconds"] / 3600
    )
    checkpointed = estimate(capsys, "125M", "--gpus", "1", "--gradient-checkpointing")
    assert checkpointed["memory"]["activations"] < plain["memory"]["activations"]
    assert estimate(capsys, "125M", "--gpu", "T4")["precision"] == "fp16"
    rows = estimate(capsys, "125M", "--gpus", "1", "--micro-batch-rows", "1", "--context-tokens", "1Ki")
    assert (rows["rows_at_once"], rows["context_tokens"]) == (1, 1024)


def test_without_a_measurement_a_cpu_gets_memory_but_no_times(capsys):
    assert main(["models", "estimate", "nano", "--gpus", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("nano on this CPU, fp32\n")
    assert "no times: the speed of this CPU was not measured" in out
    assert "--measure" in err


@pytest.mark.slow
def test_two_real_steps_give_memory_and_times(capsys):
    answer = estimate(capsys, "nano", "--gpus", "0", "--measure", "--tokens", "1M", "--context-tokens", "128")
    assert answer["seconds"] > 0
    assert answer["cost_usd"] is None
    assert answer["memory_bytes"] == answer["measured_bytes"] > 0
    assert "measured in two steps" in answer["how"]


def test_what_does_not_fit_is_warned_about_not_refused(capsys):
    assert main(["models", "estimate", "13B", "--gpus", "1"]) == 0
    out, err = capsys.readouterr()
    assert "does not fit in 80.0 GiB" in out
    assert "hint: it does not fit, and the largest part is optimizer with " in err
    assert "nothing fits by flags alone" in err


def test_the_hint_names_flags_that_would_fit(capsys):
    assert main(["models", "estimate", "1.3B", "--gpus", "8", "--gpu", "RTX 4090", "--engine", "ddp"]) == 0
    err = capsys.readouterr().err
    assert "these fit: " in err and "--engine fsdp" in err


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        (["--engine", "ddp"], "ddp over 4 processes"),
        (["--engine", "fsdp", "--sharding", "grad_optimizer"], "fsdp over 4 processes, grad_optimizer"),
        (["--engine", "fsdp", "--shard-processes", "2"], "fsdp over 4 processes, groups of 2"),
        (["--engine", "deepspeed", "--zero-stage", "3", "--offload"], "deepspeed over 4 processes, ZeRO 3, offloaded"),
        ([], "automatic: "),
    ],
)
def test_each_engine_is_estimated_and_named(capsys, words, engine):
    assert main(["models", "estimate", "350M", "--gpus", "4", *words]) == 0
    assert engine in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nano", "--gpu", "H101 80GB"], "unknown GPU 'H101 80GB'; did you mean 'H100 80GB'?"),
        (["nano", "--gpus", "0", "--gpu", "H100"], "--gpus 0 means the CPU"),
        (["nano", "--gpus", "-1"], "--gpus must be 0 or more"),
        (["nano", "--gpus", "4", "--measure"], "--measure takes steps on this machine"),
        (["nano", "--nproc", "2", "--gpus", "4"], "--nproc means processes on this CPU"),
        (["nano", "--tokens", "lots"], "--tokens: 'lots' is not a count"),
        (["nano", "--context-tokens", "100"], "batch_tokens (2048) must be a multiple of context_tokens (100)"),
        (["naon"], "unknown preset 'naon'; did you mean 'nano'?"),
    ],
)
def test_a_request_that_makes_no_sense_says_why(capsys, words, message):
    assert main(["models", "estimate", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_published_run_brings_its_gpus_and_length_and_its_claim_is_shown(capsys):
    answer = estimate(capsys, "small_scale")
    assert (answer["name"], answer["devices"], answer["tokens"]) == ("1.3B", 4, 64 * 2048 * 50_000)
    assert answer["claimed_flops_per_second"] == pytest.approx(50e12, rel=0.02)
    assert estimate(capsys, "small_scale", "--gpus", "8")["seconds"] == pytest.approx(answer["seconds"] / 2)
    assert main(["models", "estimate", "production"]) == 0
    assert "183% of the peak of 8 × A100 80GB" in capsys.readouterr().out


def test_fine_tuning_is_estimated_by_part_and_lora_takes_less_than_all_weights(capsys):
    shape = ("--gpu", "RTX 4090", "--context-tokens", "2048", "--micro-batch-rows", "1", "--gradient-checkpointing")
    qlora, lora, full = (estimate(capsys, "1.3B", "--task", task, *shape) for task in ("qlora", "lora", "full"))
    assert qlora["memory"]["base"] < lora["memory"]["base"] / 2 < full["memory"]["base"]
    assert qlora["fits"] and lora["fits"] and not full["fits"]
    assert lora["trained_parameters"] < 0.01 * full["trained_parameters"] == 0.01 * full["parameters"]
    assert qlora["rows_at_once"] == 1 and qlora["seconds"] is None


def test_rank_and_targets_change_what_is_trained(capsys):
    one, eight = (estimate(capsys, "tiny", "--task", "lora", "--rank", rank)["trained_parameters"] for rank in "18")
    assert eight == 8 * one
    some = estimate(capsys, "tiny", "--task", "lora", "--rank", "1", "--targets", "in_proj,q_proj")
    assert some["trained_parameters"] < one


def test_fine_tuning_is_for_one_device(capsys):
    assert main(["models", "estimate", "tiny", "--task", "lora", "--gpus", "2"]) == 2
    assert "one device" in capsys.readouterr().err
