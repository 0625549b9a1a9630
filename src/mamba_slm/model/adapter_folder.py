"""Adapters without peft: read a folder of LoRA matrices and add their products to the weights of a model.

W += weight · scale · B·A                     LoRA; scale = alpha / rank, or alpha / √rank
W  = m · (W + scale · B·A) / ‖rows of it‖     DoRA
v += weight · (stored − v)                    tensors trained in full
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, DataError
from mamba_slm.model.checkpoint import BACKBONE_PREFIX
from mamba_slm.model.stored import open_whole

ADAPTER_FORMAT_VERSION = 1
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
DESCRIPTION_FILE = "mamba_slm_adapter.json"
PEFT_PREFIX = "base_model.model."
CHANGES_ITS_BASE = ("pissa", "olora", "corda", "loftq")
"""Initialisations of peft that also change the weights of the base."""


@dataclass(frozen=True, kw_only=True)
class AdapterDescription:
    """What the small files of an adapter folder say."""

    folder: Path
    config: Mapping[str, Any]
    """peft's adapter_config.json."""
    base_fingerprint: str | None
    """None for an adapter that others saved."""
    base_path: Path | None
    """Where the base is, or was when the adapter was saved."""
    trained_in_full: tuple[str, ...]
    """Parameter names in the model of transformers."""
    settings: Mapping[str, Any] | None
    """Our settings that it was made with."""


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """A change of one matrix [o i]."""

    A: Tensor
    """[rank i]"""
    B: Tensor
    """[o rank]"""
    scale: float
    magnitude: Tensor | None = None
    """[o] lengths of the rows of the result (DoRA)."""

    def to(self, device: torch.device) -> LowRank:
        """The same on a device."""
        magnitude = None if self.magnitude is None else self.magnitude.to(device)
        return LowRank(A=self.A.to(device), B=self.B.to(device), scale=self.scale, magnitude=magnitude)

    def delta(self) -> Tensor:
        """[o i] scale · B·A in float32."""
        return self.scale * (self.B.float() @ self.A.float())

    def change(self, weight: Tensor) -> Tensor:
        """[o i] what the adapter adds to a matrix, in float32."""
        if self.magnitude is None:
            return self.delta()
        moved = weight.float() + self.delta()
        lengths = torch.linalg.vector_norm(moved, dim=1)
        return (self.magnitude.float() / lengths)[:, None] * moved - weight.float()


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter by the names of `LanguageModel`."""

    description: AdapterDescription
    low_rank: Mapping[str, LowRank]
    """By the name of the matrix, "sublayers.0.mixer.in_proj.weight"."""
    full: Mapping[str, Tensor]
    """Values of parameters trained in full, by name."""


def is_adapter_folder(path: Path) -> bool:
    """Whether both files of an adapter are there."""
    return (path / CONFIG_FILE).is_file() and (path / WEIGHTS_FILE).is_file()


def describe_adapter(folder: Path) -> AdapterDescription:
    """Read what an adapter is, without its weights.

    Raises:
        DataError: no adapter there.
        CheckpointError: an unreadable file, or one from a newer version.
    """
    if not is_adapter_folder(folder):
        raise DataError(
            f"{folder} is no adapter: it holds no {CONFIG_FILE} with {WEIGHTS_FILE}",
            hint="give the folder that a fine-tuning run left, such as runs/NAME/adapter",
        )
    config, ours = read_json(folder / CONFIG_FILE), {}
    if (folder / DESCRIPTION_FILE).is_file():
        ours = read_json(folder / DESCRIPTION_FILE)
        if ours.get("format_version", 0) > ADAPTER_FORMAT_VERSION:
            raise CheckpointError(
                f"{folder / DESCRIPTION_FILE} has format version {ours['format_version']}, this program reads up to "
                f"{ADAPTER_FORMAT_VERSION}",
                hint="update: pip install --upgrade mamba-slm",
            )
    path = ours.get("base_path") or config.get("base_model_name_or_path")
    relative = ours.get("base_path_from_here")
    if path and relative and not Path(path).exists():
        moved = Path(os.path.normpath(folder.resolve() / relative))  # both were moved together
        path = moved if moved.exists() else path
    return AdapterDescription(
        folder=folder,
        config=config,
        base_fingerprint=ours.get("base_fingerprint"),
        base_path=Path(path) if path else None,
        trained_in_full=tuple(ours.get("trained_in_full", ())),
        settings=ours.get("settings"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", hint="the adapter is damaged; save it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings", hint="the adapter is damaged; save it again")
    return content


def require_same_base(description: AdapterDescription, found: str) -> None:
    """Raise CheckpointError if an adapter says that it belongs to another model than that with this fingerprint."""
    expected = description.base_fingerprint
    if expected is not None and expected != found:
        was = f", which was in {description.base_path}" if description.base_path else ""
        raise CheckpointError(
            f"the adapter {description.folder} belongs to another model{was} (fingerprint {expected[:12]}, this model "
            f"has {found[:12]})",
            hint="use it with the model that it was trained on, or train one on this model: mamba-slm finetune",
        )


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that we or peft saved.

    Raises:
        DataError: no adapter there.
        CheckpointError: damaged, or of a kind that cannot be merged here.
    """
    description = describe_adapter(folder)
    config = description.config
    if config.get("peft_type") != "LORA" or config.get("fan_in_fan_out"):
        raise CheckpointError(f"{folder} is a {config.get('peft_type')} adapter; LoRA and DoRA can be merged here")
    if str(config.get("init_lora_weights", "")).lower().startswith(CHANGES_ITS_BASE):
        raise CheckpointError(
            f"{folder} was begun as {config['init_lora_weights']}, which changes the base model as well",
            hint="let peft convert it: save_pretrained with path_initial_model_for_weight_conversion",
        )
    tensors = open_whole(folder / WEIGHTS_FILE)
    pairs: dict[str, dict[str, Tensor]] = {}
    full: dict[str, Tensor] = {}
    for key in tensors:
        name = key.removeprefix(PEFT_PREFIX).removeprefix(BACKBONE_PREFIX)
        module, separator, part = name.partition(".lora_")
        if separator:
            pairs.setdefault(module, {})[part.removesuffix(".weight")] = tensors[key]
        else:
            full[name] = tensors[key]
    low_rank = {f"{module}.weight": low_rank_of(module, parts, config, folder) for module, parts in pairs.items()}
    return Adapter(description=description, low_rank=low_rank, full=full)


def low_rank_of(module: str, parts: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> LowRank:
    """The change of one matrix from its tensors, by peft's names without "lora_".

    Raises:
        CheckpointError: a part is missing or unknown.
    """
    if "embedding_A" in parts:  # peft keeps those of an embedding [rank v] and [d rank]: the matrix is [v d]
        A, B = parts.get("embedding_B", torch.empty(0)).T, parts["embedding_A"].T
        known = {"embedding_A", "embedding_B"}
    else:
        A, B = parts.get("A", torch.empty(0, 0)), parts.get("B", torch.empty(0, 0))
        known = {"A", "B", "magnitude_vector"}
    if parts.keys() - known or A.numel() == 0 or A.shape[0] != B.shape[-1]:
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: {module} has the parts {', '.join(sorted(parts))}")
    alpha = matching(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    rank = A.shape[0]
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LowRank(A=A, B=B, scale=scale, magnitude=parts.get("magnitude_vector"))


def matching(patterns: Mapping[str, float] | None, module: str, otherwise: float) -> float:
    """The value of the first pattern that ends the module's name, as peft looks it up."""
    found = (value for pattern, value in (patterns or {}).items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(found, otherwise)
