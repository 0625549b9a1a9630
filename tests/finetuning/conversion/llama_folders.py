"""Small Llamas as transformers saves them, with a real tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from small_models import VOCAB_SIZE, small_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
"""Of Llama 3.2, with a shorter original context: the factor is larger than max_position_embeddings needs."""


def varied_llama(config: PretrainedConfig | None = None, kind: type[PreTrainedModel] = LlamaForCausalLM) -> Any:
    """A model of transformers with weights large enough that attention matters."""
    torch.manual_seed(3)
    model = kind(config or LlamaConfig(**SIZES)).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.2 if parameter.dim() > 1 else 0.3))
    return model


def save(model: Any, folder: Path) -> Path:
    """As a folder with a tokenizer."""
    model.save_pretrained(folder)
    small_tokenizer().save(folder)
    return folder
