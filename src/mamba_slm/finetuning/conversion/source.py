"""A folder of a Llama, read as the tensors of our all-attention model, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, DataError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.llama import llama_tensors, model_config_from_llama
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stored import StoredTensors, open_whole
from mamba_slm.model.weight_files import weight_files

CONFIG_FILE = "config.json"
COMPUTED_ANEW = ("rotary_emb.inv_freq",)
"""Name endings of tensors that old checkpoints hold although the config says them."""


@dataclass(frozen=True, kw_only=True)
class LlamaFolder:
    """An opened folder; tensors are read when asked for."""

    folder: Path
    config: ModelConfig
    """Ours, with attention in every layer."""
    tensors: Mapping[str, StoredTensors]
    """The file that holds each tensor, by their names."""

    def read(self, theirs: str) -> Tensor:
        """One tensor by its name in the folder."""
        return self.tensors[theirs][theirs]

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of our all-attention model by our names, in the dtype it is stored in."""
        for tensor in llama_tensors(self.config):
            parts = [self.read(name) for name in tensor.theirs]
            yield tensor.ours, parts[0] if len(parts) == 1 else torch.cat(parts)


def open_llama(folder: Path | str) -> LlamaFolder:
    """Open a folder of a Llama, Mistral or Qwen2, and check that our model computes all of it.

    Raises:
        DataError: no such folder, or not one of transformers with safetensors.
        ConfigError: another architecture, or a key that our model does not follow; names it.
        CheckpointError: a file is missing or damaged, or there are tensors that our model has no place for.
    """
    folder = Path(folder)
    config = read_config(folder)
    tensors = {name: file for file in map(open_whole, weight_files(folder)) for name in file}
    require_fit(folder, config, tensors)
    return LlamaFolder(folder=folder, config=config, tensors=tensors)


def read_config(folder: Path) -> ModelConfig:
    """Our config, with attention in every layer, from the config.json of a folder. Reads no weights.

    Raises:
        DataError: there is none, or it is not JSON.
        ConfigError: another architecture, or a key that our model does not follow; names it.
    """
    path = folder / CONFIG_FILE
    try:
        return model_config_from_llama(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no {CONFIG_FILE} of a Llama, Mistral or Qwen2",
            hint="download a Llama first: hf download OWNER/NAME --local-dir FOLDER",
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", hint="copy it again") from error


def require_fit(folder: Path, config: ModelConfig, tensors: Mapping[str, StoredTensors]) -> None:
    """Raise CheckpointError unless every tensor has its place and its shape. What holds only zeros may be left over."""
    expected = {name: tuple(t.shape) for name, t in build_model(config, device="meta").state_dict().items()}
    used = set()
    for tensor in llama_tensors(config):
        for name in tensor.theirs:
            if name not in tensors:
                raise CheckpointError(f"{folder} lacks the tensor {name}", hint="the folder is incomplete")
        used.update(tensor.theirs)
        shapes = [tensors[name].shapes[name] for name in tensor.theirs]
        whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        if whole != expected[tensor.ours]:
            raise CheckpointError(
                f"{', '.join(tensor.theirs)} of {folder} has shape {list(whole)}, config.json says "
                f"{list(expected[tensor.ours])}"
            )
    for name in sorted(tensors.keys() - used):
        tied = name == "lm_head.weight" and config.tie_embeddings
        if tied or name.endswith(COMPUTED_ANEW):
            continue
        if tensors[name][name].any():
            raise CheckpointError(
                f"{folder} holds {name}, which our model has no place for",
                hint="only plain Llama layers can be converted: no biases, no norms of queries and keys, no experts",
            )


def load_llama(folder: Path | str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """The Llama itself as a model of ours, with the same logits; norms stay float32.

    Raises: as `open_llama`.
    """
    from mamba_slm.model.checkpoint import dtype_of

    opened = open_llama(folder)
    model = build_model(opened.config, device="meta")
    model.load_state_dict({n: t.to(device, dtype_of(n, dtype)) for n, t in opened.items()}, assign=True)
    return model.eval()
