"""Promises about the published runs: their sizes, what their claimed times are worth, and that each of them trains."""

from dataclasses import replace
from pathlib import Path

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.training import published_page
from mamba_slm.training.presets import train_preset
from mamba_slm.training.published_runs import CLAIMED_FLOPS_PER_SECOND, PUBLISHED_RUNS, production, settings_of
from mamba_slm.training.run import train

SIZES = {
    "quick_test": ("1.3B", 1, 4, 1_000),
    "small_scale": ("1.3B", 4, 64, 50_000),
    "medium_scale": ("2.7B", 8, 256, 100_000),
    "large_scale": ("6.7B", 8, 256, 150_000),
    "xlarge_scale": ("13B", 8, 256, 200_000),
    "production": ("1.3B", 8, 512, 100_000),
}


def test_the_runs_are_those_that_were_published():
    found = {
        name: (run.model, run.gpus, run.rows_per_step, run.steps)
        for name, run in ((name, make()) for name, make in PUBLISHED_RUNS.items())
    }
    assert found == SIZES


def test_production_has_its_published_schedule():
    config = production().config()
    assert (config.batch_tokens, config.context_tokens) == (512 * 2048, 2048)
    assert (config.learning_rate, config.schedule, config.final_share) == (3e-4, "cosine", 0.1)
    assert (config.weight_decay, config.clip_norm, config.beta1, config.beta2) == (0.1, 1.0, 0.9, 0.95)
    assert config.run_schedule().warmup_share == pytest.approx(2_000 / 100_000)


@pytest.mark.parametrize("name", [name for name in SIZES if name != "production"])
def test_the_claimed_times_divide_by_fifty_teraflops_whatever_the_number_of_gpus(name):
    assert PUBLISHED_RUNS[name]().claimed_flops_per_second() == pytest.approx(CLAIMED_FLOPS_PER_SECOND, rel=0.02)


def test_the_claim_for_production_is_beyond_the_peak_of_its_gpus_and_says_so():
    assert production().claimed_flops_per_second() > 8 * 312e12
    assert "183% of the peak of 8 × A100 80GB" in str(production())


@pytest.mark.parametrize("name", SIZES)
def test_a_run_prints_its_plan_beside_the_claim(name):
    printed = str(PUBLISHED_RUNS[name]())
    assert printed.startswith(f"{name}: ")
    for word in ("batch ", "memory ", "time ", "cost ", "claimed ", "how "):
        assert f"\n{word}" in printed


@pytest.mark.parametrize("name", SIZES)
def test_each_trains_a_nano_with_its_batch_of_rows_and_its_schedule(name, tmp_path):
    text = tmp_path / "numbers.jsonl"
    text.write_text("".join(f'{{"text": "{n} and {n + 1} make {2 * n + 1}. "}}\n' for n in range(2000)))
    run = replace(PUBLISHED_RUNS[name](), model="nano")
    config = run.config(
        context_tokens=16,
        max_steps=2,
        model_settings=("hidden_size=64", "feed_forward_size=64", "num_heads=2", "num_kv_heads=1"),
        vocab_size=300,
        data=(str(text),),
        warmup_share=0.02,
        device="cpu",
        precision="fp32",
        kernels="torch",
        sample_every_steps=0,
    )
    assert config.rows_per_step == run.rows_per_step
    published = run.config()
    for field in ("schedule", "weight_decay", "beta2", "clip_norm", "learning_rate"):
        assert getattr(config, field) == getattr(published, field)

    result = train(config, run=tmp_path / "run", say=lambda line: None)
    assert result.step == 2
    assert result.tokens == 2 * run.rows_per_step * 16
    assert result.loss is not None and result.loss < 6


def test_a_name_brings_the_settings_of_a_run_or_of_a_preset():
    assert settings_of("nano") == train_preset("nano")
    assert settings_of("small_scale")["max_steps"] == 50_000
    with pytest.raises(UnknownNameError, match="small_scale"):
        settings_of("smal_scale")


def test_a_batch_that_is_given_is_kept():
    assert production().config(batch_tokens=4096, context_tokens=1024).batch_tokens == 4096
    with pytest.raises(ConfigError):
        production().config(batch_tokens=1000)


def test_the_page_of_the_published_runs_is_fresh_and_shows_the_arithmetic():
    page = published_page.page()
    for claim in ("24 m 00 s", "13.0 days", "186.0 days", "651.0 days", "1,552.0 days", "2.3 days"):
        assert f"| {claim} |" in page
    file = Path(__file__).parents[2] / "docs" / "reference" / "published-runs.md"
    assert file.read_text() == page, "run `make docs`"
