"""What training with rounded matrices is for: on real text it wins back most of what plain rounding loses."""

import math

import pytest
import torch

from mamba_slm.data.loader import validation_batches
from mamba_slm.data.shards import TokenShards
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.trained_for import trained_for
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.precision import Precision
from mamba_slm.training.rounding_plan import rounding_plan
from mamba_slm.training.run import train
from mamba_slm.training.validation import validate
from trained_model import trained_model  # noqa: F401  the fixture

PLAN = rounding_plan("int4", block_size=0)
"""The plainest four bits: a scale per row. Blocks of 32 lose so little on so small a model that noise hides it."""


def trained_further(trained, folder, **settings):
    """A run that goes on from the trained model, with the same further tokens whatever the settings."""
    texts = trained.folder.parent.parent
    config = TrainConfig(
        initial=str(trained.folder),
        data=(str(texts / "training.jsonl"),),
        validation=str(texts / "held-out.jsonl"),
        batch_tokens=2048,
        max_steps=120,
        learning_rate=3e-4,
        warmup_share=0.1,
        final_share=0.02,
        device="cpu",
        seed=1,
        save_every_steps=1000,
        validate_every_steps=1000,
        sample_every_steps=0,
        layers_every_steps=0,
        **settings,
    )
    train(config, run=folder, command=("test",), say=lambda line: None)
    return folder


def perplexity(run, *, rounded):
    """On held-out stories, of the finished model of a run, or of what `quantize` to the nearest makes of it."""
    model = load_model(run / "model")
    if rounded:
        with torch.no_grad():
            for name, scheme in PLAN.fitted_to(model.config).items():
                weight = model.get_submodule(name).weight
                weight.copy_(dequantize(quantize_nearest(weight, scheme)))
    (shards,) = (run / "data").glob("held-out-*")
    batches = validation_batches(TokenShards.open(shards), context_tokens=512, batch_rows=4, max_tokens=40_000)
    loss, _ = validate(model, batches, rows_at_once=4, precision=Precision("fp32", "cpu"), device="cpu")
    return math.exp(loss)


@pytest.mark.slow
def test_it_recovers_sixty_percent_of_the_perplexity_that_plain_rounding_loses(trained_model, tmp_path):  # noqa: F811
    control = trained_further(trained_model, tmp_path / "control")
    aware = trained_further(trained_model, tmp_path / "aware", qat="int4", qat_block_size=0)
    assert trained_for(aware / "model") == PLAN
    exact, plain = perplexity(control, rounded=False), perplexity(control, rounded=True)
    recovered = perplexity(aware, rounded=True)
    assert plain > 1.005 * exact, "plain rounding loses nothing that could be won back"
    share = (plain - recovered) / (plain - exact)
    assert share >= 0.6, f"{exact:.3f} in float32, {plain:.3f} rounded, {recovered:.3f} trained for it: {share:.0%}"
