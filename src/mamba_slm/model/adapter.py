"""Adapters merged into weights, without peft. Each change is one of the base, so their order means nothing.

W += weight · (what the adapter makes of W − W)      matrices
v += weight · (stored − v)                           tensors trained in full
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.core.output import new_output
from mamba_slm.model.adapter_choice import Adapted, AdapterChoice
from mamba_slm.model.adapter_folder import Adapter, read_adapter, require_same_base
from mamba_slm.model.checkpoint import BACKBONE_PREFIX, CONFIG_FILE, KEPT_IN_FLOAT32, WEIGHTS_FILE, load_config
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.fingerprint import fingerprint
from mamba_slm.model.hf_bundle import FILE_NAME
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.quantized import require_float
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stored import open_tensors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
"""Taken along where they are there, from the folder that has the tokenizer."""


class MergedTensors(Mapping[str, Tensor]):
    """The weights of a model with adapters merged into them; each look-up computes, nothing is kept.

    Values come in the dtype of the base's, rounded once.

    Raises (when made):
        DataError, CheckpointError: as `read_adapter`; or an adapter belongs to another model or does not fit.
    """

    def __init__(self, config: ModelConfig, base: Mapping[str, Tensor], choices: Sequence[AdapterChoice]):
        self.base, self.choices = base, tuple(choices)
        self.adapters = [read_adapter(choice.folder) for choice in choices]
        if self.adapters:
            found = fingerprint(config, base)
            for adapter in self.adapters:
                require_same_base(adapter.description, found)
                require_fitting(adapter, base)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, name: str) -> Tensor:
        weight = self.base[name]
        change = self.change(name, weight)
        return weight if change is None else (weight.float() + change).to(weight.dtype)

    @torch.no_grad()
    def change(self, name: str, weight: Tensor) -> Tensor | None:
        """What the adapters add to a tensor in float32; None where they leave it as it is."""
        added = None
        for choice, adapter in zip(self.choices, self.adapters, strict=True):
            if name in adapter.low_rank:
                change = choice.weight * adapter.low_rank[name].to(weight.device).change(weight)
            elif name in adapter.full:
                change = choice.weight * (adapter.full[name].to(weight.device).float() - weight.float())
            else:
                continue
            added = change if added is None else added + change
        return added


def require_fitting(adapter: Adapter, base: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if an adapter changes tensors that are not there or have another shape."""
    shapes = {name: (one.B.shape[0], one.A.shape[1]) for name, one in adapter.low_rank.items()}
    shapes |= {name: tuple(value.shape) for name, value in adapter.full.items()}
    for name, shape in shapes.items():
        there = tuple(base[name].shape) if name in base else "not there"
        if shape != there:
            raise CheckpointError(
                f"the adapter {adapter.description.folder} changes {name} {shape}, which is {there} in the model",
                hint="it belongs to another model",
            )


@torch.no_grad()
def merge(model: LanguageModel, choices: Sequence[AdapterChoice]) -> None:
    """Merge adapters into a model, in place.

    Raises:
        DataError, CheckpointError: as `MergedTensors`.
        UsageError: the model's matrices are packed, so nothing can be added to them.
    """
    if isinstance(model, PackedModel):
        raise UsageError(
            "adapters cannot be added to the rounded numbers of a quantized model",
            hint="merge them into the model in floating point, and quantize that: mamba-slm quantize MODEL --adapter A",
        )
    parameters = dict(model.named_parameters())
    merged = MergedTensors(model.config, {name: parameter.data for name, parameter in parameters.items()}, choices)
    for name, parameter in parameters.items():
        parameter.data = merged[name]


def write_merged(
    adapted: Adapted,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    complete: Callable[[Path], None] = lambda folder: None,
) -> MergedTensors:
    """Write the model folder of a model with its adapters merged in.

    Args:
        dtype: of the matrices, those of the base's file if not given; small tensors keep float32.
        complete: is given the folder before it gets its place, to describe the tokenizer for others where an adapter
            brought one of its own.

    Returns:
        The merged weights as they are before they are rounded to `dtype`.

    Raises:
        UsageError: the base is quantized, or `out` exists.
        DataError, CheckpointError: as `MergedTensors`.
        DiskFullError: no room.
    """
    require_float(adapted.base, purpose="merging an adapter")
    stored = open_tensors(adapted.base, "model", WEIGHTS_FILE)
    base = {name.removeprefix(BACKBONE_PREFIX): stored[name] for name in stored}
    merged = MergedTensors(load_config(adapted.base), base, adapted.adapters)
    size = sum(tensor.numel() * (dtype or tensor.dtype).itemsize for tensor in base.values())
    with new_output(out, needed_bytes=size, overwrite=overwrite) as folder:
        for name in (CONFIG_FILE, FILE_NAME):
            if (adapted.base / name).is_file():
                shutil.copyfile(adapted.base / name, folder / name)
        for name in TOKENIZER_FILES:
            if (adapted.tokenizer_folder / name).is_file():
                shutil.copyfile(adapted.tokenizer_folder / name, folder / name)
        tensors = {
            name: (tensor if dtype is None or name.endswith(KEPT_IN_FLOAT32) else tensor.to(dtype)).contiguous()
            for name, tensor in merged.items()
        }
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # safetensors lets nobody else read what it writes
        complete(folder)
    return merged
