"""The files of a folder for transformers and everything that reads its format: config, weights, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.files import disk_full_is_explained, write_json_atomic, write_text_atomic
from mamba_slm.export.formats import CONFIG_FILE
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.granite import granite_config, to_granite_tensors
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.hf_tokenizer import special_token_ids, tokenizer_config
from mamba_slm.text.tokenizer import IM_END, Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEPT_FLOAT32 = (".A_log", ".D", ".dt_bias")
"""Stored in float32 at any dtype: a few numbers per head that an exponential magnifies. Rounding A_log to bfloat16
changes a decay rate by up to 0.8 %, dt_bias a step by up to 1.6 %. vLLM and MLX compute with what is stored (vLLM: A),
llama.cpp always holds them in float32; transformers rounds them as it loads, unless it is asked for float32."""
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95}
"""As `mamba-slm generate` samples; greedy decoding of a small model repeats itself."""
DEFAULT_SHARD_BYTES = 5 * 10**9


def write_folder(
    folder: Path,
    model: LanguageModel,
    *,
    dtype: torch.dtype,
    tokenizer: Tokenizer | None = None,
    chat_template: str | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write everything but the model card into an existing folder.

    Args:
        model: portable, see `make_portable`.
        max_shard_bytes: no safetensors file holds more, except for a single tensor that is larger.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model, or float16 its weights; names setting or tensor.
        DiskFullError: no room.
    """
    write_json_atomic(folder / CONFIG_FILE, hf_config(model.config, dtype=dtype, tokenizer=tokenizer))
    write_weights(folder, rounded(to_granite_tensors(model.state_dict(), model.config), dtype), max_shard_bytes)
    if tokenizer is None:
        return
    tokenizer.save(folder)
    described = tokenizer_config(tokenizer, max_tokens=model.config.max_context_tokens)
    # transformers 4 and transformers.js do not know the name TokenizersBackend; version 5 knows both
    write_json_atomic(folder / "tokenizer_config.json", described | {"tokenizer_class": "PreTrainedTokenizerFast"})
    if chat_template is not None:
        write_text_atomic(folder / "chat_template.jinja", chat_template)
    write_json_atomic(folder / "generation_config.json", generation_config(tokenizer))


def hf_config(config: ModelConfig, *, dtype: torch.dtype, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """config.json, every key spelled as all runtimes read it; see `mamba_slm.export.hf.lint` for the reasons.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model; names the setting.
    """
    name = str(dtype).removeprefix("torch.")
    ids = {} if tokenizer is None else special_token_ids(tokenizer)
    return granite_config(config) | {"dtype": name, "torch_dtype": name} | ids


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json: a reply ends at the end of a document and, where the tokenizer has it, of a turn."""
    ends = [tokenizer.eos_id, tokenizer.first_id_of([IM_END])]
    return special_token_ids(tokenizer) | {"eos_token_id": [id for id in ends if id is not None]} | SAMPLING


def rounded(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Each tensor in the dtype it is stored in.

    Raises:
        ConfigError: a value is too large for the dtype; names the tensor.
    """
    found = {}
    for name, tensor in tensors.items():
        kept = name.endswith(KEPT_FLOAT32)
        found[name] = tensor.detach() if kept else tensor.detach().to(dtype)
        if not found[name].isfinite().all():
            largest = float(tensor.detach().abs().max())
            raise ConfigError(
                f"{name} does not fit into {str(dtype).removeprefix('torch.')}: its largest value is {largest:g}",
                hint="--dtype bfloat16 has the range of float32",
            )
    return found


def write_weights(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int) -> None:
    """`model.safetensors`, or several with `model.safetensors.index.json` beside them."""
    shards = split_by_bytes(tensors, max_shard_bytes)
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
        places = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        total = sum(map(num_bytes, tensors.values()))
        index = {"metadata": {"total_size": total}, "weight_map": places}
        write_json_atomic(folder / "model.safetensors.index.json", index)
    for file, shard in zip(names, shards, strict=True):
        with disk_full_is_explained(folder):
            contiguous = {name: tensors[name].cpu().contiguous() for name in shard}
            save_file(contiguous, folder / file, metadata={"format": "pt"})


def split_by_bytes(tensors: Mapping[str, Tensor], max_bytes: int) -> list[list[str]]:
    """Names in their order, cut so that a part stays within `max_bytes` unless one tensor alone exceeds it."""
    parts: list[list[str]] = [[]]
    used = 0
    for name, tensor in tensors.items():
        if parts[-1] and used + num_bytes(tensor) > max_bytes:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += num_bytes(tensor)
    return parts


def num_bytes(tensor: Tensor) -> int:
    """Size of the tensor's values."""
    return tensor.numel() * tensor.element_size()


def weights_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Size of all weights as `rounded` stores them, from the config alone."""
    kept = 3 * config.num_ssm_heads * config.num_mamba
    return (count_parameters(config).total - kept) * dtype.itemsize + 4 * kept


def written_files(folder: Path) -> dict[str, int]:
    """Name and bytes of every file in a folder."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
