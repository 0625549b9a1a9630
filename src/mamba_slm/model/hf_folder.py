"""What transformers wants beside `config.json` and `model.safetensors` in a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.model.checkpoint import CONFIG_FILE, load_config
from mamba_slm.model.hf_bundle import AUTO_MAP, FILE_NAME, modelling_source

ARCHITECTURE = AUTO_MAP["AutoModelForCausalLM"].rpartition(".")[2]
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
GENERATION_CONFIG_FILE = "generation_config.json"


def make_loadable(
    folder: Path, *, token_ids: Mapping[str, int] | None = None, tokenizer_config: Mapping[str, Any] | None = None
) -> None:
    """Complete a model folder for transformers: Auto classes, special tokens, and the model's code as one file.

    With this package imported the code file is not read; without it, transformers runs it when asked to with
    `trust_remote_code=True`. Descriptions that are already there, of a tokenizer or of generation, are kept.

    Args:
        token_ids: `special_token_ids` of the tokenizer in the folder, from `text/hf_tokenizer.py`.
        tokenizer_config: its `tokenizer_config`.

    Raises:
        CheckpointError: the folder's config cannot be read.
        DiskFullError: no room.
    """
    load_config(folder)
    stored: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    stored |= {"architectures": [ARCHITECTURE], "auto_map": AUTO_MAP, **(token_ids or {})}
    if token_ids is not None:
        write_if_absent(folder / GENERATION_CONFIG_FILE, token_ids)
    if tokenizer_config is not None:
        write_if_absent(folder / TOKENIZER_CONFIG_FILE, tokenizer_config)
    write_text_atomic(folder / FILE_NAME, modelling_source())
    write_json_atomic(folder / CONFIG_FILE, stored)


def write_if_absent(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, but never over what somebody else wrote."""
    if not path.exists():
        write_json_atomic(path, dict(value))
