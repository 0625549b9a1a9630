"""Which model is it? A digest of a model's settings and weights that survives other dtypes, files and folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.model.checkpoint import BACKBONE_PREFIX, WEIGHTS_FILE, load_config
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.stored import open_tensors

NUMBERS_PER_TENSOR = 64
"""Training changes all numbers of a tensor, so a few of each say whether it is the same; a model is read in no time."""
NOT_OF_THE_WEIGHTS = ("chunk_size", "max_context_tokens", "rope_scaling", "rope_scaling_factor", "attention_window")
"""Settings that may differ for the same weights."""


def fingerprint_of_folder(folder: Path) -> str:
    """The fingerprint of a model folder of ours; of each tensor a few numbers are read.

    Raises:
        CheckpointError: no config, or damaged weights.
    """
    stored = {name.removeprefix(BACKBONE_PREFIX): name for name in open_tensors(folder, "model", WEIGHTS_FILE)}
    # each from a mapping of its own: what was read of a mapped file stays in memory, here two thirds of the model
    read = ((name, open_tensors(folder, "model", WEIGHTS_FILE)[stored[name]]) for name in sorted(stored))
    return digest_of(load_config(folder), read)


def fingerprint(config: ModelConfig, tensors: Mapping[str, Tensor]) -> str:
    """64 hex digits of settings and weights, the same for float32 and for the BFloat16 that it was rounded to.

    Args:
        tensors: by the names of `LanguageModel.state_dict`; a tied head need not be there.
    """
    return digest_of(config, ((name, tensors[name]) for name in sorted(tensors)))


@torch.no_grad()
def digest_of(config: ModelConfig, named: Iterable[tuple[str, Tensor]]) -> str:
    """The fingerprint from tensors in the order of their names."""
    settings = {name: value for name, value in config.stored().items() if name not in NOT_OF_THE_WEIGHTS}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, whole in named:
        if name == "lm_head.weight" and config.tie_embeddings:
            continue
        tensor = whole.detach().reshape(-1)
        chosen = torch.arange(min(NUMBERS_PER_TENSOR, tensor.numel()), device=tensor.device)
        numbers = tensor[chosen * tensor.numel() // max(len(chosen), 1)].to(torch.bfloat16).cpu()
        digest.update(f"{name} {tuple(whole.shape)} {numbers.float().tolist()}".encode())
    return digest.hexdigest()
