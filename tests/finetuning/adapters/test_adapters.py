"""Adapters reach what they are told to reach, learn, and come back from disk as they were."""

import pytest
import torch

from mamba_slm.finetuning.adapters.attach import attach
from mamba_slm.finetuning.adapters.folder import base_of, load_adapter, save_adapter
from mamba_slm.finetuning.adapters.proof import GradientProof
from mamba_slm.finetuning.adapters.settings import FULL_TENSORS, LoraSettings
from mamba_slm.model.adapter import AdapterChoice, merge
from mamba_slm.model.checkpoint import save_model
from model.hf_models import random_tokens, varied, wrapped

EVERYTHING = tuple(FULL_TENSORS)
SETTINGS = {
    "lora": LoraSettings(rank=4, alpha=8),
    "rslora": LoraSettings(rank=4, alpha=8, rslora=True),
    "dora": LoraSettings(rank=4, alpha=8, dora=True),
    "with small tensors": LoraSettings(rank=2, full=EVERYTHING),
    "only x and dt": LoraSettings(rank=2, targets=("in_proj",), in_proj_slices=("x", "dt"), full=("A_log", "conv")),
}


def train(model, steps=3, proof=None, seed=1):
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
def logits(model, seed=9):
    return model(input_ids=random_tokens(2, 17, seed=seed)).logits


@pytest.mark.parametrize("name", SETTINGS)
def test_an_adapter_changes_nothing_then_learns_is_proven_saved_loaded_and_merged(name, tmp_path):
    before = logits(wrapped())
    save_model(varied("portable"), folder_of(tmp_path / "base"))
    base = base_of(tmp_path / "base")
    model = attach(wrapped(), SETTINGS[name])
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)
    said = []
    train(model, proof=GradientProof(said.append))
    assert "gradients reach all" in said[0]
    learned = logits(model)
    assert (learned - before).abs().max() > 1e-2
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-6)

    save_adapter(model, tmp_path / "adapter", base, settings=SETTINGS[name])
    loaded = load_adapter(wrapped(), tmp_path / "adapter")
    assert torch.equal(logits(loaded), learned)

    merged = varied("portable")
    merge(merged, [AdapterChoice(folder=tmp_path / "adapter")])
    with torch.no_grad():
        torch.testing.assert_close(merged(random_tokens(2, 17, seed=9)), learned, rtol=1e-5, atol=1e-5)
    unloaded = model.merge_and_unload()
    torch.testing.assert_close(logits(unloaded), learned, rtol=1e-5, atol=1e-5)
    assert not any("lora" in key or "full" in key for key in unloaded.state_dict())


def folder_of(path):
    path.mkdir(parents=True)
    return path
