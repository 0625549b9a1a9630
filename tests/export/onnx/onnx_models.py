"""Small models for ONNX: every position, window, group and layout, with weights that all differ."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from mamba_slm.export.onnx.export import write_onnx_folder
from mamba_slm.export.onnx.runner import OnnxRunner
from mamba_slm.export.probes import random_sequences
from mamba_slm.export.source import Source
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel

SIZES = {
    "pattern": "M-*-M-*",
    "vocab_size": 61,
    "hidden_size": 32,
    "num_heads": 2,
    "num_kv_heads": 1,
    "feed_forward_size": 48,
    "state_size": 16,
    "ssm_head_dim": 8,
    "chunk_size": 64,
    "max_context_tokens": 256,
}
VARIANTS = {
    "rope": {},
    "nope, two groups, untied": {"position": "nope", "num_groups": 2, "tie_embeddings": False},
    "classic": {"pattern": "MM*-M*-"},
    "alibi": {"position": "alibi"},
    "learned": {"position": "learned"},
    "window": {"attention_window": 5},
    "window of alibi": {"attention_window": 7, "position": "alibi"},
    "yarn": {"rope_scaling": "yarn", "rope_scaling_factor": 4.0},
    "heads of 8": {"num_heads": 4, "num_kv_heads": 2},
    "two taps": {"conv_kernel": 2},
    "no attention": {"pattern": "M-M"},
    "no Mamba": {"pattern": "*-*-"},
    "feed-forwards first": {"pattern": "--M*"},
}
"""What differs from `SIZES`."""
LENGTHS = (5, 1, 65, 200)


def small_config(variant: str = "rope", **changed) -> ModelConfig:
    """One of the variants."""
    return ModelConfig(**{**SIZES, **VARIANTS[variant], **changed})


@functools.cache
def model_of(config: ModelConfig) -> LanguageModel:
    """Do not change its weights."""
    model = build_model(config, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", ".D")):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.dim() > 1 and "conv" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def small_model(variant: str = "rope", **changed) -> LanguageModel:
    """The model of `small_config`."""
    return model_of(small_config(variant, **changed))


def sequences(*lengths: int) -> list[list[int]]:
    """Random tokens, one sequence per length."""
    return [
        random_sequences(SIZES["vocab_size"], length, count=1, seed=seed)[0]
        for seed, length in enumerate(lengths or LENGTHS)
    ]


def exported(folder: Path, model: LanguageModel, form: str = "fused", **settings) -> OnnxRunner:
    """Write the model without a tokenizer and without checks, and open it on one thread."""
    write_onnx_folder(Source(folder, model, None), folder, forms=[form], **settings)
    return OnnxRunner(folder, form=form, num_threads=1)
