"""Checkpoints: a model folder that can be used as it is, and beside it everything the trainer needs to go on.

    checkpoints/step-00000200/
        config.json  model.safetensors  tokenizer.json     the model
        optimizer.safetensors                              AdamW's moments, named PARAMETER/KEY
        trainer.json                                       step, tokens, seconds, data position, random states, …
        manifest.json                                      size and sha256 of every other file

A checkpoint appears under its name only when all of it is on the disk. One that a broken disk or a copy damaged later
is noticed by its checksums, and the one before it is used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mamba_slm.core.errors import CheckpointError, ConfigError, DataError
from mamba_slm.core.files import folder_written_atomically, sha256_of_file
from mamba_slm.model.checkpoint import load_config, save_weights
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.hf_folder import make_loadable
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.format_version import read_versioned_json
from mamba_slm.text.hf_tokenizer import special_token_ids, tokenizer_config
from mamba_slm.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.optim import load_optimizer_tensors, optimizer_tensors

TRAINER_FORMAT_VERSION = 1
MANIFEST_FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TRAINER_STATE = "trainer.json"
OPTIMIZER_STATE = "optimizer.safetensors"
MODEL_WEIGHTS = "model.safetensors"
MODEL_FILES = ("config.json", MODEL_WEIGHTS, TOKENIZER_FILE)


def save_checkpoint(
    folder: Path,
    *,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    tokenizer_file: Path | None = None,
) -> int:
    """Write a checkpoint as `folder`; a kill at any moment leaves all of it or nothing.

    Args:
        folder: `checkpoints/step-…`; one of the same name (damaged, or from before a resume) is replaced.
        state: JSON-able state of the trainer.
        tokenizer_file: copied beside the model.

    Returns: bytes written.

    Raises:
        DiskFullError: no room; nothing is left behind and earlier checkpoints are untouched.
    """
    return write_checkpoint(
        folder,
        config=model.config,
        weights=model.state_dict(),
        moments=optimizer_tensors(optimizer),
        state=state,
        tokenizer_file=tokenizer_file,
    )


def write_checkpoint(
    folder: Path,
    *,
    config: ModelConfig,
    weights: Mapping[str, torch.Tensor],
    moments: Mapping[str, torch.Tensor],
    state: dict[str, Any],
    tokenizer_file: Path | None = None,
) -> int:
    """`save_checkpoint` for whole tensors that were collected from several processes; `moments` are `PARAMETER/KEY`."""
    replaced = folder.with_name(f".{folder.name}.replaced")
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    with folder_written_atomically(folder) as writing:
        save_weights(weights, config, writing)
        if tokenizer_file is not None:
            shutil.copyfile(tokenizer_file, writing / TOKENIZER_FILE)
        save_file(dict(moments), writing / OPTIMIZER_STATE)
        (writing / OPTIMIZER_STATE).chmod(0o644)  # safetensors makes it readable by its owner only
        write_json(writing / TRAINER_STATE, {"format_version": TRAINER_FORMAT_VERSION, **state})
        files = sorted(path for path in writing.rglob("*") if path.is_file())
        entries = {
            path.relative_to(writing).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
            for path in files
        }
        write_json(writing / MANIFEST, {"format_version": MANIFEST_FORMAT_VERSION, "files": entries})
    shutil.rmtree(replaced, ignore_errors=True)
    return sum(entry["bytes"] for entry in entries.values())


def write_json(path: Path, value: Any) -> None:
    """Plain write: the folder around it is what is atomic."""
    path.write_text(json.dumps(value, allow_nan=False) + "\n", encoding="utf-8")


def verify_checkpoint(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        CheckpointError: a file is absent, has another size or other bytes, or there is no readable manifest.
        SetupError: written by a newer package.
    """
    try:
        files = read_versioned_json(folder / MANIFEST, supported=MANIFEST_FORMAT_VERSION, migrations={})["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {MANIFEST}") from error
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged") from error
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder} has lost {name}")
        if path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes instead of {size}")
        if sha256_of_file(path) != digest:
            raise CheckpointError(f"{path} is damaged: its checksum differs from the manifest")


def newest_valid_checkpoint(folders: Iterable[Path], *, on_damaged: Callable[[Path, str], None]) -> Path | None:
    """The newest of `folders` (lowest step first) that is intact; None when there are none at all.

    Args:
        on_damaged: called with folder and reason for each damaged one that is passed over.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged.
    """
    newest_first = list(folders)[::-1]
    for folder in newest_first:
        try:
            verify_checkpoint(folder)
        except CheckpointError as error:
            on_damaged(folder, error.message)
        else:
            return folder
    if newest_first:
        raise CheckpointError(
            f"all {len(newest_first)} checkpoints in {newest_first[0].parent} are damaged",
            hint="restore one from a copy, or start again in another folder with --out",
        )
    return None


def load_checkpoint(
    folder: Path, *, model: LanguageModel, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Put a checkpoint's weights into `model` and its moments into `optimizer`; return the trainer's state.

    Raises:
        CheckpointError: the weights or moments belong to another model.
        SetupError: written by a newer package.
    """

    def load(weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
        model.load_state_dict(weights)
        if optimizer is not None:
            load_optimizer_tensors(optimizer, moments)

    return read_checkpoint(folder, load)


def read_checkpoint(
    folder: Path, load: Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], None]
) -> dict[str, Any]:
    """Give a checkpoint's weights and moments (`PARAMETER/KEY`) to `load`; return the trainer's state.

    Raises:
        CheckpointError: `load` refuses them, because they belong to another model.
        SetupError: written by a newer package.
    """
    state = read_versioned_json(folder / TRAINER_STATE, supported=TRAINER_FORMAT_VERSION, migrations={})
    try:
        load(load_file(folder / MODEL_WEIGHTS), load_file(folder / OPTIMIZER_STATE))
    except (RuntimeError, ConfigError) as error:
        raise CheckpointError(
            f"{folder} does not fit this model: {str(error).splitlines()[0]}",
            hint="resume with the settings the run was started with (its config.yaml)",
        ) from error
    return state


def prune_checkpoints(folders: Iterable[Path], *, keep_last: int, keep: Iterable[Path | None]) -> list[Path]:
    """Delete all but the newest `keep_last` and those in `keep`; returns what was deleted.

    Args:
        folders: all checkpoints, lowest step first.
        keep: the best one, the last good one before a spike; None entries are ignored.
    """
    folders = list(folders)
    kept = {folder.name for folder in folders[-keep_last:]} | {folder.name for folder in keep if folder is not None}
    deleted = [folder for folder in folders if folder.name not in kept]
    for folder in deleted:
        # renamed first: a kill halfway must not leave half a checkpoint under a checkpoint's name
        leaving = folder.with_name(f".{folder.name}.deleted")
        shutil.rmtree(leaving, ignore_errors=True)
        folder.rename(leaving)
        shutil.rmtree(leaving)
    return deleted


def publish_model(checkpoint: Path, folder: Path) -> None:
    """Copy the model of a checkpoint, without the trainer's state, to `folder`, which is replaced.

    What transformers wants to find in a model folder is added (`model/hf_folder.py`).
    """
    replaced, new = (folder.with_name(f".{folder.name}.{word}") for word in ("replaced", "new"))
    for leftover in (replaced, new):
        shutil.rmtree(leftover, ignore_errors=True)
    with folder_written_atomically(new) as writing:
        for name in MODEL_FILES:
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, writing / name)
        complete_for_transformers(writing)
    if folder.exists():
        folder.rename(replaced)
    new.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def complete_for_transformers(folder: Path) -> None:
    """Add what transformers wants to find, also about the tokenizer where the folder has one."""
    if not (folder / TOKENIZER_FILE).is_file():
        make_loadable(folder)
        return
    tokenizer = Tokenizer.load(folder)
    max_tokens = load_config(folder).max_context_tokens
    make_loadable(
        folder,
        token_ids=special_token_ids(tokenizer),
        tokenizer_config=tokenizer_config(tokenizer, max_tokens=max_tokens),
    )


def remove_unfinished(folder: Path) -> None:
    """Delete what a kill left of checkpoints being written or deleted; call it only as the owner of the run."""
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover)
