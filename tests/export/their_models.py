"""GraniteMoeHybrids that never were ours, as transformers saves them, and our model folders of several shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

from mamba_slm.export.hf.runner import quiet_transformers
from mamba_slm.model.checkpoint import save_model
from model.hf_models import varied
from small_models import VOCAB_SIZE, small_tokenizer

HEAD_DIM = 8
MULTIPLIERS = {
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "attention_multiplier": 0.0625,
}
"""As the Granite 4.0 models have them."""


def save_granite(folder: Path, *, with_tokenizer: bool = True, dtype=torch.float32, **settings: Any) -> Path:
    """A random GraniteMoeHybrid in the spelling of transformers 5."""
    config = GraniteMoeHybridConfig(
        **{
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "shared_intermediate_size": 40,
            "attention_multiplier": HEAD_DIM**-0.5,
            "position_embedding_type": "rope",
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "mamba_n_heads": 8,
            "mamba_d_state": 16,
            "mamba_chunk_size": 16,
            "max_position_embeddings": 96,
            "initializer_range": 0.2,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
            **settings,
        }
    )
    torch.manual_seed(7)
    network = GraniteMoeHybridForCausalLM(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("norm.weight", "layernorm.weight", ".D")):
                parameter.uniform_(0.5, 1.5)
    with quiet_transformers():
        network.to(dtype).save_pretrained(folder)
    if with_tokenizer:
        small_tokenizer().save(folder)
    return folder


def save_ours(folder: Path, kind: str) -> Path:
    """A model folder of `model.hf_models`, with a tokenizer."""
    folder.mkdir(parents=True)
    save_model(varied(kind), folder)
    small_tokenizer().save(folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change keys of config.json; None removes one."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return folder
