"""Checkpoints: a model folder that can be used as it is, and beside it everything the trainer needs to go on.

    checkpoints/step-00000200/
        config.json  tokenizer.json                        the model
        model.safetensors                                  its weights
        optimizer.safetensors                              the optimiser's state, named PARAMETER/KEY
        trainer.json                                       step, tokens, seconds, data position, random states, …
        manifest.json                                      size and sha256 of every other file

Several processes may write their pieces each, side by side; then model.safetensors and optimizer.safetensors are

        model-00000-of-00002.safetensors  moments-00000-of-00002.safetensors  …
        shards.json                                        what they are pieces of (`model/stored.py`)

A checkpoint appears under its name only when all of it is on the disk. One that a broken disk or a copy damaged later
is noticed by its checksums, and the one before it is used.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError, DataError
from mamba_slm.core.files import disk_full_is_explained, fsync_folder, sha256_of_file
from mamba_slm.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, config_to_json
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stored import INDEX_FILE, INDEX_FORMAT_VERSION, Piece, index_of, open_tensors, write_pieces
from mamba_slm.runs.format_version import read_versioned_json
from mamba_slm.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from mamba_slm.training.optim import load_optimizer_tensors, optimizer_tensors

TRAINER_FORMAT_VERSION = 1
MANIFEST_FORMAT_VERSION = 2
"""1 has whole files only; they are still written as 1, so that older packages go on with them."""
MANIFEST = "manifest.json"
TRAINER_STATE = "trainer.json"
OPTIMIZER_STATE = "optimizer.safetensors"


def save_checkpoint(
    folder: Path,
    *,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    tokenizer_file: Path | None = None,
) -> int:
    """Write a checkpoint as `folder` at once; a kill at any moment leaves all of it or nothing.

    Args:
        folder: `checkpoints/step-…`; one of the same name (damaged, or from before a resume) is replaced.
        state: JSON-able state of the trainer.
        tokenizer_file: copied beside the model.

    Returns: bytes written.

    Raises:
        DiskFullError: no room; nothing is left behind and earlier checkpoints are untouched.
    """
    writing = new_folder(folder)
    try:
        with disk_full_is_explained(folder):
            files = write_whole_files(writing, model.state_dict(), optimizer_tensors(optimizer))
            return commit(
                writing, folder, written=[files], config=model.config, state=state, tokenizer_file=tokenizer_file
            )
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise


def new_folder(folder: Path) -> Path:
    """A folder to write into, beside the one that it will become; `remove_unfinished` knows it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))


def write_whole_files(writing: Path, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write weights and moments (`PARAMETER/KEY`) into a file each; returns what `commit` wants to know."""
    for name, tensors in ((WEIGHTS_FILE, weights), (OPTIMIZER_STATE, moments)):
        here = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(here, writing / name, metadata={"format": "pt"})
    return {"files": settled(writing, [WEIGHTS_FILE, OPTIMIZER_STATE])}


def write_own_pieces(
    writing: Path, weights: Mapping[str, Piece], moments: Mapping[str, Piece], *, rank: int, size: int
) -> dict[str, Any]:
    """Write this process's pieces into a file of each kind; returns what `commit` wants to know."""
    names, index = [], {}
    for kind, pieces in (("model", weights), ("moments", moments)):
        names.append(f"{kind}-{rank:05d}-of-{size:05d}.safetensors")
        index[kind] = write_pieces(writing / names[-1], pieces)
    return {"files": settled(writing, names), **index}


def settled(writing: Path, names: Iterable[str]) -> dict[str, Any]:
    """Size and checksum of files, which are on the disk afterwards and readable like other files."""
    entries = {}
    for name in names:
        path = writing / name
        path.chmod(0o644)  # safetensors makes it readable by its owner only
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
        entries[name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    return entries


def commit(
    writing: Path,
    folder: Path,
    *,
    written: Sequence[Mapping[str, Any]],
    config: ModelConfig,
    state: dict[str, Any],
    config_note: Mapping[str, Any] = {},
    tokenizer_file: Path | None = None,
) -> int:
    """Make `writing`, which holds the tensors, the checkpoint `folder`; returns its bytes.

    Args:
        written: what the processes that wrote tensors said about them.
        config_note: further keys for config.json.
    """
    small = [CONFIG_FILE, TRAINER_STATE]
    write_json(writing / CONFIG_FILE, config_to_json(config) | dict(config_note))
    write_json(writing / TRAINER_STATE, {"format_version": TRAINER_FORMAT_VERSION, **state})
    if tokenizer_file is not None:
        shutil.copyfile(tokenizer_file, writing / TOKENIZER_FILE)
        small.append(TOKENIZER_FILE)
    is_whole = "model" not in written[0]
    if not is_whole:
        index = {kind: index_of([part[kind] for part in written]) for kind in ("model", "moments")}
        write_json(writing / INDEX_FILE, {"format_version": INDEX_FORMAT_VERSION, **index})
        small.append(INDEX_FILE)
    entries = {name: entry for part in written for name, entry in part["files"].items()} | settled(writing, small)
    version = 1 if is_whole else MANIFEST_FORMAT_VERSION
    write_json(writing / MANIFEST, {"format_version": version, "files": dict(sorted(entries.items()))})
    settled(writing, [MANIFEST])
    writing.chmod(0o755)
    fsync_folder(writing)
    replaced = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    writing.rename(folder)
    fsync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return sum(entry["bytes"] for entry in entries.values())


def write_json(path: Path, value: Any) -> None:
    """Plain write: the folder around it is what is atomic."""
    path.write_text(json.dumps(value, allow_nan=False) + "\n", encoding="utf-8")


def verify_checkpoint(folder: Path, *, rank: int = 0, size: int = 1) -> None:
    """Compare every file with the manifest; of `size` processes, each reads every `size`-th.

    Raises:
        CheckpointError: a file is absent, has another size or other bytes, or there is no readable manifest.
        SetupError: written by a newer package.
    """
    try:
        content = read_versioned_json(folder / MANIFEST, supported=MANIFEST_FORMAT_VERSION, migrations={1: dict})
        files = content["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {MANIFEST}") from error
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged") from error
    for name, (num_bytes, digest) in list(expected.items())[rank::size]:
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder} has lost {name}")
        if path.stat().st_size != num_bytes:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes instead of {num_bytes}")
        if sha256_of_file(path) != digest:
            raise CheckpointError(f"{path} is damaged: its checksum differs from the manifest")


def newest_valid_checkpoint(
    folders: Iterable[Path],
    *,
    on_damaged: Callable[[Path, str], None],
    damage_of: Callable[[Path], str | None] | None = None,
) -> Path | None:
    """The newest of `folders` (lowest step first) that is intact; None when there are none at all.

    Args:
        on_damaged: called with folder and reason for each damaged one that is passed over.
        damage_of: says what is wrong with a checkpoint; None means `damage_found`.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged.
    """
    newest_first = list(folders)[::-1]
    for folder in newest_first:
        damage = (damage_of or damage_found)(folder)
        if damage is None:
            return folder
        on_damaged(folder, damage)
    if newest_first:
        raise CheckpointError(
            f"all {len(newest_first)} checkpoints in {newest_first[0].parent} are damaged",
            hint="restore one from a copy, or start again in another folder with --out",
        )
    return None


def damage_found(folder: Path, *, rank: int = 0, size: int = 1) -> str | None:
    """What `verify_checkpoint` finds wrong; None where it is intact."""
    try:
        verify_checkpoint(folder, rank=rank, size=size)
    except CheckpointError as error:
        return error.message
    return None


def load_checkpoint(
    folder: Path, *, model: LanguageModel, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Put a checkpoint's weights into `model` and its moments into `optimizer`; return the trainer's state.

    Raises:
        CheckpointError: the weights or moments belong to another model.
        SetupError: written by a newer package.
    """

    def load(weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        model.load_state_dict(weights)
        if optimizer is not None:
            load_optimizer_tensors(optimizer, dict(moments))

    return read_checkpoint(folder, load)


def read_checkpoint(folder: Path, load: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None]) -> dict[str, Any]:
    """Give a checkpoint's weights and moments (`PARAMETER/KEY`) to `load`; return the trainer's state.

    Raises:
        CheckpointError: `load` refuses them, because they belong to another model.
        SetupError: written by a newer package.
    """
    state = read_versioned_json(folder / TRAINER_STATE, supported=TRAINER_FORMAT_VERSION, migrations={})
    try:
        load(open_tensors(folder, "model", WEIGHTS_FILE), open_tensors(folder, "moments", OPTIMIZER_STATE))
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


def remove_unfinished(folder: Path) -> None:
    """Delete what a kill left of checkpoints being written or deleted; call it only as the owner of the run."""
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover)
