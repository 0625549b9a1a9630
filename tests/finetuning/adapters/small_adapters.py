"""Small models with trained adapters, in memory and on disk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mamba_slm.finetuning.adapters.attach import attach
from mamba_slm.finetuning.adapters.folder import base_of, save_adapter
from mamba_slm.finetuning.adapters.proof import GradientProof
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.model.hf import HybridSlmForCausalLM
from model.hf_models import random_tokens
from small_models import save_complete_model, varied_model


def train(model: nn.Module, *, steps: int = 3, proof: GradientProof | None = None, seed: int = 1) -> nn.Module:
    """A few steps on random tokens with a learning rate at which something happens."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        tokens = random_tokens(2, 24, seed=seed + step)
        model(input_ids=tokens, labels=tokens).loss.backward()
        if proof is not None:
            proof.check(model)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def logits(model: nn.Module, seed: int = 9) -> Tensor:
    """[2 17 v] of random tokens."""
    return model(input_ids=random_tokens(2, 17, seed=seed)).logits


def small_wrapped() -> HybridSlmForCausalLM:
    """The model of `save_complete_model` as one of transformers."""
    return HybridSlmForCausalLM.from_language_model(varied_model())


def save_trained(folder, base, settings: LoraSettings, *, seed: int = 1) -> nn.Module:
    """Train an adapter for `small_wrapped` and save it; its model folder `base` is made if it is not there."""
    if not base.is_dir():
        save_complete_model(base)
    torch.manual_seed(seed)
    model = train(attach(small_wrapped(), settings), seed=seed)
    save_adapter(model, folder, base_of(base), settings=settings)
    return model
