"""Checkpoints of a transformers Trainer as checkpoints of a run: whole, with checksums, under the run's own names.

    checkpoints/step-00000200/
        model.safetensors config.json             the weights of a model that is trained in full, or
        adapter_model.safetensors adapter_config.json     of adapters
        trained.safetensors                       of adapters: every tensor that is trained, as it is
        optimizer.pt scheduler.pt rng_state.pth trainer_state.json      what the Trainer goes on with
        recorder.json                             what the recorder goes on with
        manifest.json                             size and sha256 of every other file

The Trainer writes `checkpoint-N` into a hidden folder; it counts once it has been moved to its name here. The .pt files
are pickles of tensors and numbers, which the Trainer reads with `weights_only=True`, and only after the checksums of
the manifest were compared. Its training_args.bin, which nobody reads, is not kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.files import fsync_folder
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.checkpoint import MANIFEST, MANIFEST_FORMAT_VERSION, settled, write_json

RECORDER_STATE = "recorder.json"
TRAINED = "trained.safetensors"
NOT_KEPT = ("training_args.bin", "README.md")
ADAPTER_CONFIG = "adapter_config.json"


def writing_folder(run: RunDirectory) -> Path:
    """Where the Trainer writes; its name is one that `training.checkpoint.remove_unfinished` clears away."""
    return run.checkpoints_folder / ".step-unfinished"


def commit_checkpoint(
    run: RunDirectory, step: int, *, model: nn.Module, recorder: Mapping[str, Any], tokenizer_file: Path | None
) -> Path:
    """Make what the Trainer has just written the run's checkpoint of `step`, and return its folder.

    Args:
        model: the one that is trained; of adapters its trained tensors are written once more, by their own names.
        recorder: state of the recorder, as JSON.
        tokenizer_file: copied beside the weights.

    Raises:
        DiskFullError: see `core.files.disk_full_is_explained`, which the caller has around the training.
    """
    writing = writing_folder(run) / f"checkpoint-{step}"
    for name in NOT_KEPT:
        (writing / name).unlink(missing_ok=True)
    if (writing / ADAPTER_CONFIG).is_file():
        save_file(trained_tensors(model), writing / TRAINED, metadata={"format": "pt"})
    if tokenizer_file is not None and tokenizer_file.is_file():
        shutil.copyfile(tokenizer_file, writing / tokenizer_file.name)
    write_json(writing / RECORDER_STATE, {"format_version": 1, **recorder})
    names = sorted(str(path.relative_to(writing)) for path in writing.rglob("*") if path.is_file())
    write_json(writing / MANIFEST, {"format_version": MANIFEST_FORMAT_VERSION, "files": settled(writing, names)})
    settled(writing, [MANIFEST])
    fsync_folder(writing)
    folder = run.checkpoint_folder(step)
    replaced = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    writing.rename(folder)
    fsync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return folder


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor that is trained, by its name in the model."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def restore_trained(checkpoint: Path, model: nn.Module) -> None:
    """Put the trained tensors of a checkpoint of adapters back, to the last bit; others are left to the Trainer.

    Raises:
        CheckpointError: they are not those of this model.
    """
    file = checkpoint / TRAINED
    if not file.is_file():
        return
    stored = load_file(file)
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    differing = sorted(stored.keys() ^ parameters.keys())
    if differing:
        raise CheckpointError(
            f"{checkpoint} does not fit this model: {differing[0]} is trained in one of them only",
            hint="resume with the settings the run was started with (its config.yaml)",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != stored[name].shape:
                raise CheckpointError(
                    f"{checkpoint}: {name} is {tuple(stored[name].shape)}, not {tuple(parameter.shape)}"
                )
            parameter.copy_(stored[name])


def read_recorder_state(checkpoint: Path) -> dict[str, Any]:
    """What the recorder had written; its checksum was compared before.

    Raises:
        CheckpointError: there is none.
    """
    try:
        return json.loads((checkpoint / RECORDER_STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of this kind of run: {error}") from error
