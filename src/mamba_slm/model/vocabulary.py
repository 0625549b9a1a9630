"""A model with room for more tokens.

A new token gets the mean of all embeddings, so that no output becomes less likely by more than its fair share: by
Jensen's inequality the mean's logit is below the log of the mean of all exponentials, hence p(new) <= 1 / v at every
place. A little noise tells new tokens apart, which a frozen head otherwise never could. J. Hewitt, "Initializing New
Word Embeddings for Pretrained Language Models", 2021.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.stack import LanguageModel

NOISE = 0.1
"""Of the standard deviation of the old rows, in every dimension."""
MULTIPLE = 8
"""Runtimes want vocabularies in multiples of it (`portability`)."""


def grown_vocabulary(model: LanguageModel, num_tokens: int, *, seed: int = 0) -> LanguageModel:
    """The model with rows for `num_tokens` tokens, rounded up to `MULTIPLE`; itself where it has them already.

    Other tensors are shared with `model`.

    Args:
        num_tokens: what the tokenizer needs: its largest id + 1.
        seed: of the noise.

    Raises:
        ConfigError: fewer tokens than one.
    """
    if num_tokens < 1:
        raise ConfigError(f"a vocabulary has at least 1 token, got {num_tokens}")
    if num_tokens <= model.config.vocab_size:
        return model
    rows = -(-num_tokens // MULTIPLE) * MULTIPLE
    with torch.device("meta"):
        grown = LanguageModel(replace(model.config, vocab_size=rows))
    tensors = dict(model.state_dict(keep_vars=True))
    for name in ("embedding.weight", "lm_head.weight"):
        if name in tensors:
            old = tensors[name]
            new = torch.nn.Parameter(with_rows(old.detach(), rows, seed), requires_grad=old.requires_grad)
            tensors[name] = new
    grown.load_state_dict(tensors, assign=True)
    return grown.train(model.training)


def with_rows(weight: Tensor, rows: int, seed: int) -> Tensor:
    """[v d] to [rows d]: the old rows, then their mean with noise."""
    values = weight.float()
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows - len(weight), weight.shape[1], generator=draw).to(weight.device)
    new = values.mean(dim=0) + NOISE * values.std(dim=0) * noise
    return torch.cat([weight, new.to(weight.dtype)])
