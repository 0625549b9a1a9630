"""Adapters on disk: a folder that plain peft loads as well, and beside it what model it belongs to.

    adapter_config.json           peft's own
    adapter_model.safetensors     A and B; tensors trained in full under the names they have in the base model
    mamba_slm_adapter.json        fingerprint and path of the base, our settings

Plain peft puts the tensors trained in full into the base model itself, so `disable_adapter` does not take them away
there, and of several adapters the last one loaded wins; `load_adapter` keeps them apart.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mamba_slm.core.config import to_dict
from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.core.optional import require
from mamba_slm.finetuning.adapters.attach import (
    DEFAULT_NAME,
    PURPOSE,
    architecture_of,
    make_active,
    require_usable,
    without_known_warnings,
)
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.model.adapter_folder import (
    ADAPTER_FORMAT_VERSION,
    CONFIG_FILE,
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    describe_adapter,
    require_same_base,
)
from mamba_slm.model.checkpoint import BACKBONE_PREFIX
from mamba_slm.model.fingerprint import fingerprint, fingerprint_of_folder

if TYPE_CHECKING:
    from peft import PeftModel

PEFT_PREFIX = "base_model.model."
"""peft writes it before every name of the model that it wraps."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The model that an adapter belongs to."""

    folder: Path
    """Where it was."""
    fingerprint: str
    """What it is: `model/fingerprint.py`."""


def base_of(folder: Path) -> Base:
    """The model in a folder as the base of adapters.

    Raises:
        CheckpointError: it is no model folder, or damaged.
    """
    return Base(folder=folder, fingerprint=fingerprint_of_folder(folder))


def save_adapter(
    model: PeftModel, folder: Path, base: Base, *, name: str = DEFAULT_NAME, settings: LoraSettings | None = None
) -> None:
    """Write an adapter alone, whole or not at all. `folder` must not exist.

    Args:
        base: what it was trained on; the adapter is refused for any other model later.
        name: of the adapter in the model.
        settings: that it was made with, for people.

    Raises:
        UsageError: no adapter of this name.
        DiskFullError: no room.
    """
    require("peft", extra="finetune", purpose=PURPOSE)
    if name not in model.peft_config:
        raise UsageError(f"there is no adapter {name!r}", hint=f"there are: {', '.join(model.peft_config)}")
    tensors, in_full = adapter_tensors(model, name)
    config = model.peft_config[name]
    description = {
        "format_version": ADAPTER_FORMAT_VERSION,
        "base_fingerprint": base.fingerprint,
        "base_path": str(base.folder.resolve()),
        "base_path_from_here": os.path.relpath(base.folder.resolve(), folder.resolve()),
        "trained_in_full": in_full,
        "settings": None if settings is None else to_dict(settings),
    }
    with folder_written_atomically(folder) as unfinished:
        earlier = config.base_model_name_or_path, config.inference_mode
        config.base_model_name_or_path, config.inference_mode = str(base.folder.resolve()), True
        try:
            config.save_pretrained(str(unfinished))
        finally:
            config.base_model_name_or_path, config.inference_mode = earlier
        save_file(tensors, unfinished / WEIGHTS_FILE, metadata={"format": "pt"})
        (unfinished / WEIGHTS_FILE).chmod(0o644)  # safetensors lets nobody else read what it writes
        write_json_atomic(unfinished / DESCRIPTION_FILE, description)


def adapter_tensors(model: PeftModel, name: str = DEFAULT_NAME) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of an adapter by the names they have in a file, and the names of those trained in full."""
    from peft.utils import get_peft_model_state_dict

    from mamba_slm.finetuning.adapters.full_tensors import CHILD

    stored = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    in_full = sorted(key.replace(f".{CHILD}.", ".") for key in stored if f".{CHILD}." in key)
    tensors = {
        key.replace(f".{CHILD}.", "."): tensor.detach().cpu().contiguous().clone() for key, tensor in stored.items()
    }
    return tensors, [key.removeprefix(PEFT_PREFIX) for key in in_full]


def load_adapter(
    model: nn.Module,
    folder: Path | str,
    name: str = DEFAULT_NAME,
    *,
    base_fingerprint: str | None = None,
    trainable: bool = False,
) -> PeftModel:
    """Give a model a stored adapter beside those that it has, and make it the active one.

    Args:
        model: as for `attach`.
        base_fingerprint: of the model's folder; computed from its weights if not given, which those of a quantized
            model do not allow.
        trainable: go on training it.

    Raises:
        DataError: the folder holds no adapter.
        CheckpointError: the adapter is damaged or belongs to another model.
        UsageError: the name is taken.
    """
    peft = require("peft", extra="finetune", purpose=PURPOSE)
    folder = Path(folder)
    require_usable(name)
    description = describe_adapter(folder)
    known: Any = model if isinstance(model, peft.PeftModel) else None
    if known is not None and name in known.peft_config:
        raise UsageError(f"there is an adapter {name!r} already", hint="choose another name")
    if description.base_fingerprint is not None:
        require_same_base(description, base_fingerprint or fingerprint_in_memory(model))
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.inference_mode, config.base_model_name_or_path = not trainable, None  # which peft takes for a contradiction
    with without_known_warnings():
        if known is None:
            adapted: Any = peft.get_peft_model(model, config, adapter_name=name)  # type: ignore[arg-type]
        else:
            known.add_adapter(name, config)
            adapted = known
    fill(adapted, name, load_file(folder / WEIGHTS_FILE), description.trained_in_full, folder)
    make_active(adapted, name, trainable=trainable)
    return adapted if trainable else adapted.eval()


def fill(model: PeftModel, name: str, stored: dict[str, Tensor], in_full: tuple[str, ...], folder: Path) -> None:
    """Put an adapter's stored values in place.

    Raises:
        CheckpointError: some have no place, or some places no value.
    """
    from peft.utils import set_peft_model_state_dict

    from mamba_slm.finetuning.adapters.full_tensors import CHILD, train_in_full

    renamed = {}
    if in_full:
        train_in_full(model.get_base_model(), in_full, name)
    for key, tensor in stored.items():
        path, _, last = key.rpartition(".")
        renamed[f"{path}.{CHILD}.{last}" if key.removeprefix(PEFT_PREFIX) in in_full else key] = tensor
    try:
        result = set_peft_model_state_dict(model, renamed, adapter_name=name)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{folder} does not fit the model: {error}") from error
    missing = [key for key in result.missing_keys if f".{name}." in key or key.endswith(f".{name}")]
    if wrong := [*result.unexpected_keys, *missing]:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} does not fit its {CONFIG_FILE}: {wrong[0]} ({len(wrong)} tensors)",
            hint="the folder is damaged; save the adapter again",
        )


@torch.no_grad()
def fingerprint_in_memory(model: nn.Module) -> str:
    """The fingerprint of a model of transformers made of ours, without the adapters that it has.

    Raises:
        UsageError: its matrices are packed, so they say nothing about the model that they were made from.
    """
    from peft import PeftModel
    from peft.utils.save_and_load import get_base_model_state_dict

    adapted: Any = model if isinstance(model, PeftModel) else None
    with contextlib.nullcontext() if adapted is None else adapted.disable_adapter():
        tensors = model.state_dict() if adapted is None else get_base_model_state_dict(adapted)
        if any(not tensor.is_floating_point() for tensor in tensors.values()):
            raise UsageError(
                "the model's matrices are packed, so it cannot be told whether an adapter belongs to it",
                hint="load_adapter(..., base_fingerprint=fingerprint_of_folder(folder))",
            )
        own = {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in tensors.items()}
        own.pop("score.weight", None)
        return fingerprint(architecture_of(model if adapted is None else adapted.get_base_model()), own)
