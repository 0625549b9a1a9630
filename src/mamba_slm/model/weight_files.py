"""The files that a folder of transformers keeps its weights in."""

from __future__ import annotations

import json
from pathlib import Path

from mamba_slm.core.errors import CheckpointError
from mamba_slm.model.checkpoint import WEIGHTS_FILE

INDEX_FILE = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, those of its index where there is one.

    Raises:
        CheckpointError: there are none, or one of the index is missing.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / INDEX_FILE).is_file():
        raise CheckpointError(
            f"{folder} has no {WEIGHTS_FILE} and no {INDEX_FILE}",
            hint="pickles (.bin, .pt) are never read; save the model again with transformers",
        )
    try:
        names = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].values()
        files = [folder / Path(name).name for name in sorted(set(names))]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder / INDEX_FILE} is not an index of weights: {error!r}") from error
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; {INDEX_FILE} names it", hint="the folder is incomplete")
    return files
