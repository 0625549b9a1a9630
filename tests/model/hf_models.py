"""Small models of every kind, as models of transformers."""

from __future__ import annotations

import torch

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from small_models import VOCAB_SIZE

SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_heads": 2,
    "num_kv_heads": 1,
    "feed_forward_size": 48,
    "state_size": 8,
    "ssm_head_dim": 16,
    "chunk_size": 8,
    "max_context_tokens": 96,
}
CONFIGS = {
    "portable": ModelConfig(pattern="M-*-M-", **SIZES),
    "classic, untied, nope": ModelConfig(pattern="MM*-M", num_groups=2, position="nope", tie_embeddings=False, **SIZES),
    "learned positions": ModelConfig(pattern="M-*-", position="learned", **SIZES),
    "alibi": ModelConfig(pattern="*-M-", position="alibi", **SIZES),
    "only mamba": ModelConfig(pattern="M-M-", **SIZES),
    "only attention": ModelConfig(pattern="*-*-", **SIZES),
}


def varied(kind: str, seed: int = 4) -> LanguageModel:
    """A model of ours whose next tokens are varied."""
    model = build_model(CONFIGS[kind], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "conv" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
            if name.endswith(("norm.weight", ".D")):
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def wrapped(kind: str = "portable", seed: int = 4) -> HybridSlmForCausalLM:
    """The same as a model of transformers."""
    return HybridSlmForCausalLM.from_language_model(varied(kind, seed))


def random_tokens(*size: int, seed: int = 5) -> torch.Tensor:
    """Ordinary tokens: none that begins, ends or pads."""
    return torch.randint(4, VOCAB_SIZE, size, generator=torch.Generator().manual_seed(seed))
