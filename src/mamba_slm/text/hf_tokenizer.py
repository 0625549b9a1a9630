"""What transformers' `AutoTokenizer` wants to know about a tokenizer.json of ours."""

from __future__ import annotations

from typing import Any

from mamba_slm.text.tokenizer import Tokenizer


def special_token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Begin, end and padding under the names that transformers' configs use."""
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}


def tokenizer_config(tokenizer: Tokenizer, *, max_tokens: int) -> dict[str, Any]:
    """Contents of `tokenizer_config.json`; batches are padded on the left, as generation needs it."""
    return {
        "tokenizer_class": "TokenizersBackend",
        "bos_token": tokenizer.token_text(tokenizer.bos_id),
        "eos_token": tokenizer.token_text(tokenizer.eos_id),
        "pad_token": tokenizer.token_text(tokenizer.pad_id),
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }
