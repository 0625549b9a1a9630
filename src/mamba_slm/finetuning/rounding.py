"""Training in full with matrices rounded as they will be stored (`--qat`), in a model of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.shared_model import language_model_of
from mamba_slm.model.rounded import RoundedEmbedding, RoundedProjection, Switch, round_in_training
from mamba_slm.model.trained_for import TRAINED_FOR_KEY
from mamba_slm.training.rounding_plan import rounding_plan


def round_all(model: Any, config: FinetuneConfig, say: Callable[[str], None]) -> dict[str, Any]:
    """Replace the modules of all matrices that `config.qat` rounds; weights and their names stay.

    Returns: what config.json says besides the model, so that `quantize` finds the formats it was made for; nothing
    without `qat`.
    """
    if config.qat is None:
        return {}
    plan = rounding_plan(config.qat, keep=None, block_size=None)
    shared = language_model_of(model)
    switch = Switch(is_on=True)
    round_in_training(shared, plan, switch)
    if isinstance(shared.embedding, RoundedEmbedding):
        assert isinstance(shared.embedding.weight, nn.Parameter)
        model.model.embedding = shared.embedding
        if shared.config.tie_embeddings:  # the head is a module of its own over the same matrix
            model.lm_head = RoundedProjection(shared.embedding.weight, shared.embedding.scheme, switch)
    if isinstance(shared.lm_head, RoundedProjection):
        model.lm_head = shared.lm_head
    say(f"qat: matrices are rounded in every pass ({plan.for_model(shared.config)}); checkpoints keep them in float32")
    return {TRAINED_FOR_KEY: plan.to_json()}
