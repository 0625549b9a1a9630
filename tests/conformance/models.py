"""The small hybrids of the conformance suite and the sequences they read: every sublayer, both layouts, odd lengths."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.stack import LanguageModel

LENGTHS = (1, 63, 64, 65, 500)
"""Around the chunk size of 64, a single token, and several chunks with a rest."""

SIZES = {
    "vocab_size": 72,
    "hidden_size": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "feed_forward_size": 48,
    "state_size": 16,
    "ssm_head_dim": 8,
    "chunk_size": 64,
    "max_context_tokens": 1024,
    "rope_theta": 10_000.0,
}
CONFIGS = {
    "portable": ModelConfig(pattern="M-*-M-", **SIZES),
    "classic": ModelConfig(pattern="MM*-M*-", num_groups=2, tie_embeddings=False, **SIZES),
}
ORACLE_CONFIGS = {
    "portable, nope": ModelConfig(pattern="M-*-M-", num_groups=2, position="nope", tie_embeddings=False, **SIZES),
    "portable, heads of 16": ModelConfig(pattern="M-*-M-", **SIZES | {"num_heads": 2, "num_kv_heads": 1}),
    "attention": ModelConfig(pattern="*-*-*-", **SIZES),
    "attention, untied": ModelConfig(pattern="*-*-", tie_embeddings=False, **SIZES),
}
"""Further models that only other people's code is compared on."""
KERNEL_SIZES = SIZES | {"num_heads": 2, "num_kv_heads": 1, "ssm_head_dim": 16}
KERNEL_CONFIGS = {
    "portable, for kernels": ModelConfig(pattern="M-*-M-", **KERNEL_SIZES),
    "classic, for kernels": ModelConfig(pattern="MM*-M*-", num_groups=2, tie_embeddings=False, **KERNEL_SIZES),
}
"""As `CONFIGS`, in multiples of 16, which is what the kernels for CPUs take."""
ALL_CONFIGS = CONFIGS | ORACLE_CONFIGS | KERNEL_CONFIGS


@cache
def base_model(layout: str) -> LanguageModel:
    """Do not change; take `fresh_model`."""
    model = build_model(ALL_CONFIGS[layout], seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        model.embedding.weight.mul_(20)
        for name, parameter in model.named_parameters():
            # weights that are 1 after initialisation would hide a path that forgets or misplaces them
            if name.endswith(("norm.weight", ".D")):
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def fresh_model(layout: str, *, scan_backend: str | None = None) -> LanguageModel:
    """A copy that a path may cast, patch and differentiate."""
    model = copy.deepcopy(base_model(layout))
    if scan_backend is not None:
        set_scan_backend(model, scan_backend)
    return model


def set_scan_backend(model: LanguageModel, name: str) -> None:
    """Run every Mamba-2 mixer on the named scan."""
    for module in model.modules():
        if isinstance(module, Mamba2):
            module.scan_backend = name


@cache
def sequences(lengths: tuple[int, ...] = LENGTHS, seed: int = 5) -> tuple[Tensor, ...]:
    """Random tokens [t], one tensor per length."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, SIZES["vocab_size"], (length,), generator=generator) for length in lengths)
