"""What transformers wants beside `config.json` and `model.safetensors` in a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.model.checkpoint import CONFIG_FILE, load_config
from mamba_slm.model.hf_bundle import AUTO_MAP, FILE_NAME, modelling_source
from mamba_slm.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from mamba_slm.text.tokenizer import Tokenizer

ARCHITECTURE = AUTO_MAP["AutoModelForCausalLM"].rpartition(".")[2]
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
GENERATION_CONFIG_FILE = "generation_config.json"


def make_loadable(folder: Path) -> None:
    """Complete a model folder for transformers: Auto classes, special tokens, and the model's code as one file.

    With this package imported the code file is not read; without it, transformers runs it when asked to with
    `trust_remote_code=True`. A tokenizer in the folder is described too. Files that are already there, such as a
    tokenizer's own description, are kept.

    Raises:
        CheckpointError, DataError: the folder's config or tokenizer cannot be read.
        DiskFullError: no room.
    """
    config = load_config(folder)
    stored: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    stored |= {"architectures": [ARCHITECTURE], "auto_map": AUTO_MAP}
    if (folder / TOKENIZER_FILE).is_file():
        tokenizer = Tokenizer.load(folder)
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        stored |= ids
        write_if_absent(folder / GENERATION_CONFIG_FILE, ids)
        write_if_absent(
            folder / TOKENIZER_CONFIG_FILE,
            {
                "tokenizer_class": "TokenizersBackend",
                "bos_token": tokenizer.token_text(tokenizer.bos_id),
                "eos_token": tokenizer.token_text(tokenizer.eos_id),
                "pad_token": tokenizer.token_text(tokenizer.pad_id),
                "model_max_length": config.max_context_tokens,
                "clean_up_tokenization_spaces": False,
                "padding_side": "left",
            },
        )
    write_text_atomic(folder / FILE_NAME, modelling_source())
    write_json_atomic(folder / CONFIG_FILE, stored)


def write_if_absent(path: Path, value: dict[str, Any]) -> None:
    """Write JSON, but never over what somebody else wrote."""
    if not path.exists():
        write_json_atomic(path, value)
