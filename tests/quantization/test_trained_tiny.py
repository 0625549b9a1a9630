"""What few bits cost a model of 10.6M parameters that was really trained, saved and loaded as a user would."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.count import count_parameters
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.quantization import PLANS, Quantization
from mamba_slm.model.quantized import save_quantized
from mamba_slm.ops.lowbit.scheme import scheme_named
from mamba_slm.quantization.measure import Quality, Reference
from mamba_slm.quantization.quantize import quantize_model
from mamba_slm.quantization.sensitivity import measure_sensitivity, proposed_keep
from mamba_slm.text.tokenizer import Tokenizer
from trained_model import TINY, stories

pytestmark = pytest.mark.slow
CALIBRATION_TOKENS = 4096


def token_rows(folder, texts, num_tokens):
    """Whole stories in their order, up to so many tokens."""
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    rows, left = [], num_tokens
    for tokens in encode_batch(Tokenizer.load(folder), documents):
        if left <= 0:
            break
        rows.append(torch.from_numpy(tokens)[: min(left, TINY.context_tokens)].long())
        left -= len(rows[-1])
    return rows


def new_folder(path):
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def tiny(trained_tiny):
    """(the original, what it predicts on stories that it never saw, rows of its training text)."""
    model = load_model(trained_tiny.folder)
    assert count_parameters(model.config).total >= 10_000_000
    reference = Reference(model, token_rows(trained_tiny.folder, trained_tiny.held_out, 10_000))
    return model, reference, token_rows(trained_tiny.folder, stories()[0], CALIBRATION_TOKENS)


def saved_and_measured(tiny, plan: Quantization, folder) -> tuple[Quality, float]:
    """Quality of the model that loads by itself, and bits per weight of its file."""
    model, reference, rows = tiny
    matrices = quantize_model(model, plan, calibration=rows if plan.method == "gptq" else ())
    save_quantized(folder, model.config, matrices, model.state_dict(), plan)
    loaded = load_model(folder)
    assert isinstance(loaded, PackedModel)
    bits = 8 * (folder / "model.safetensors").stat().st_size / count_parameters(model.config).total
    return reference.quality_of(loaded), bits


def test_int8_is_nearly_the_original(tiny, tmp_path):
    quality, bits = saved_and_measured(tiny, PLANS["int8"], tmp_path)
    assert abs(quality.perplexity_change) <= 0.005 and quality.argmax_agreement >= 0.99, quality
    assert bits < 9


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLANS["int4"], method="gptq"),
        Quantization(default=scheme_named("int4"), parts={"embedding": scheme_named("int8")}),
    ],
    ids=["gptq", "mixed"],
)
def test_less_than_6_bits_cost_less_than_3_percent(tiny, tmp_path, plan):
    quality, bits = saved_and_measured(tiny, plan, tmp_path)
    assert quality.perplexity_change <= 0.03, quality
    assert bits <= 6


def test_text_saves_most_of_what_rounding_to_the_nearest_loses_in_the_layers(tiny, tmp_path):
    plan = Quantization(default=scheme_named("int4"), parts={"embedding": scheme_named("int8")})
    nearest, by_text = (
        saved_and_measured(tiny, replace(plan, method=method), new_folder(tmp_path / method))[0]
        for method in ("nearest", "gptq")
    )
    assert by_text.mean_kl < 0.6 * nearest.mean_kl
    assert by_text.argmax_agreement > nearest.argmax_agreement


def test_what_is_proposed_to_keep_brings_the_loss_down(tiny):
    model, reference, _ = tiny
    plan = PLANS["int4"]
    sensitivity = measure_sensitivity(model, reference, plan, each_matrix=False)
    worst = max(sensitivity.parts, key=lambda cost: cost.quality.mean_kl)
    pretended = replace(worst.quality, perplexity=1.05 * reference.perplexity)  # it truly loses little
    keep = proposed_keep(model, plan, sensitivity, quality=pretended, max_drop=0.03)
    assert keep and worst.name in keep
