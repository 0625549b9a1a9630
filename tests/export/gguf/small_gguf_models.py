"""Small models with every kind of sublayer, in the sizes that llama.cpp and its block formats want."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from mamba_slm.export.source import Source
from mamba_slm.model.checkpoint import save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from small_models import VOCAB_SIZE, small_tokenizer

SIZES = {
    "pattern": "M-*-M-",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 256,
    "num_heads": 4,
    "num_kv_heads": 2,
    "feed_forward_size": 256,
    "state_size": 32,
    "ssm_head_dim": 64,
    "chunk_size": 32,
    "max_context_tokens": 256,
}
VARIANTS = {
    "portable": {},
    "classic": {"pattern": "MM*-M*-"},
    "nope": {"position": "nope"},
    "untied": {"tie_embeddings": False},
    "two groups": {"num_groups": 2},
    "linear": {"rope_scaling": "linear", "rope_scaling_factor": 2.0},
    "ntk": {"rope_scaling": "ntk", "rope_scaling_factor": 2.0},
    "yarn": {"rope_scaling": "yarn", "rope_scaling_factor": 2.0},
    "no feed-forward": {"pattern": "M*M"},
}
"""What differs from `SIZES`."""
LITTLE = {"hidden_size": 64, "num_heads": 2, "num_kv_heads": 1, "feed_forward_size": 96, "ssm_head_dim": 16}
"""Quicker, and with rows that do not fill the blocks of the k-quants."""


def small_config(variant: str = "portable", **changed) -> ModelConfig:
    """One of the variants."""
    return ModelConfig(**{**SIZES, **VARIANTS[variant], **changed})


@functools.cache
def model_of(config: ModelConfig) -> LanguageModel:
    """Weights that all differ, so that one in the place of another shows. Do not change them."""
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", ".D")):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.dim() > 1 and "conv" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def small_source(variant: str = "portable", folder: Path = Path("absent"), **changed) -> Source:
    """The model with a tokenizer, as `open_source` returns it."""
    return Source(folder, model_of(small_config(variant, **changed)), small_tokenizer())


def save_variant(folder: Path, variant: str = "portable", **changed) -> Path:
    """The same as a model folder."""
    folder.mkdir(parents=True)
    save_model(model_of(small_config(variant, **changed)), folder)
    small_tokenizer().save(folder)
    return folder
