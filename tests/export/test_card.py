"""The card says what the folder is, what was measured, and how each runtime is started."""

from dataclasses import replace

from mamba_slm.export.card import model_card
from mamba_slm.export.compare import Comparison
from mamba_slm.export.hf.lint import verdicts
from mamba_slm.export.hf.write import hf_config
from mamba_slm.model.count import count_parameters
from mamba_slm.model.presets import preset

CONFIG = preset("60M")
PARITY = Comparison(
    reference="ours", other="theirs", num_sequences=3, num_tokens=77, max_logit_error=1.2e-5, argmax_agreement=0.9876,
    mean_kl=1e-9, perplexity_a=9.0, perplexity_b=9.0,
)  # fmt: skip


def card(config=CONFIG, **settings):
    import torch

    found = verdicts(hf_config(config, dtype=torch.float32))
    given = {"dtype": "float32", "parity": PARITY, "rounding": None, "verdicts": found, **settings}
    return model_card("stories", config, **given)


def test_the_facts_are_those_of_the_config():
    text = card()
    assert f"{count_parameters(CONFIG).total:,}" in text
    assert f"`{CONFIG.pattern}`" in text
    assert "8,192 tokens" in text
    assert "none: the model continues documents" in text
    assert "chat_template.jinja" in card(has_chat=True)


def test_the_measured_numbers_are_there():
    text = card()
    assert "on 77 tokens in 3 sequences" in text
    assert "1.2e-05" in text
    assert "0.9876" in text
    assert "nats" not in text
    rounded = card(dtype="bfloat16", rounding=replace(PARITY, other="theirs in bfloat16", mean_kl=3e-4))
    assert "What theirs in bfloat16 computes" in rounded
    assert "3.0e-04 nats" in rounded


def test_every_runtime_has_a_line_with_a_command_or_a_reason():
    lines = {line.split(" | ")[0].strip("| "): line for line in card().splitlines() if line.startswith("| ")}
    assert "`vllm serve stories" in lines["vLLM"]
    assert "export gguf" in lines["llama.cpp"]
    lost = card(replace(CONFIG, rope_scaling="linear", rope_scaling_factor=2.0))
    line = next(line for line in lost.splitlines() if line.startswith("| SGLang"))
    assert line.startswith("| SGLang | no | rope_scaling = linear")
    assert "launch_server" not in line


def test_warnings_stand_out():
    assert "\n> Zeros cost much.\n" in card(warnings=["zeros cost much"])
