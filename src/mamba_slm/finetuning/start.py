"""The model folder that a fine-tuning begins with, whatever MODEL is: also a run that left an adapter alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from mamba_slm.model.adapter_choice import Adapted, resolve_adapted

MERGED_BASE = "merged-base"


def start_folder(model: str, run: Path, say: Callable[[str], None]) -> Path:
    """The folder of a model; one in the run directory where adapters had to be merged into it first.

    Args:
        model: a model folder, a checkpoint, a run, or an adapter.
        run: the run directory.

    Raises:
        DataError: no model there, or the base of an adapter is gone.
        UsageError: an adapter over a quantized base, whose numbers nothing can be added to.
    """
    adapted = resolve_adapted(model)
    if not adapted.adapters:
        return adapted.base
    folder = run / MERGED_BASE
    if not folder.is_dir():
        write(adapted, folder)
        say(f"{adapted}: merged into {folder}, which is trained further")
    return folder


def write(adapted: Adapted, folder: Path) -> None:
    """Write base and adapters as one model in float32, whole or not at all."""
    from mamba_slm.model.adapter import write_merged

    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    write_merged(adapted, new, dtype=torch.float32)
    new.rename(folder)
