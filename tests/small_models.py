"""A model of a few thousand parameters with a real tokenizer, for tests of what is built on top of them."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

import torch

from mamba_slm.model.checkpoint import save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import train_tokenizer
from mamba_slm.training.publishing import complete_for_transformers

VOCAB_SIZE = 320


def varied_model(*, vocab_size: int = VOCAB_SIZE, max_context_tokens: int = 48, seed: int = 4) -> LanguageModel:
    """A hybrid of every sublayer whose next tokens are varied; a freshly initialised one mostly repeats its input."""
    config = ModelConfig(
        pattern="M-*-M-",
        vocab_size=vocab_size,
        hidden_size=32,
        num_heads=2,
        num_kv_heads=1,
        feed_forward_size=48,
        state_size=8,
        ssm_head_dim=16,
        chunk_size=8,
        max_context_tokens=max_context_tokens,
    )
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "conv" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@functools.cache
def small_tokenizer() -> Tokenizer:
    """Trained on a little Python, with characters of several bytes."""
    texts = [inspect.getsource(module) for module in (functools, inspect)]
    return train_tokenizer([*texts, "naïve 語 😀\n" * 3], vocab_size=VOCAB_SIZE)


def save_small_model(folder: Path, *, max_context_tokens: int = 48) -> Path:
    """Write a model folder: config.json, model.safetensors, tokenizer.json."""
    folder.mkdir(parents=True)
    save_model(varied_model(max_context_tokens=max_context_tokens), folder)
    small_tokenizer().save(folder)
    return folder


def save_complete_model(folder: Path, *, max_context_tokens: int = 48) -> Path:
    """The same as a finished run leaves it, with what transformers wants to find."""
    save_small_model(folder, max_context_tokens=max_context_tokens)
    complete_for_transformers(folder)
    return folder


def recompute_activations(model, *, enable: bool = True) -> None:
    """Switch gradient checkpointing of a model of transformers, by the name that its version has for it."""
    what = "enable" if enable else "disable"
    newer = getattr(model, f"activation_checkpointing_{what}", None)
    (newer or getattr(model, f"gradient_checkpointing_{what}"))()
