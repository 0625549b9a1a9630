"""What config.json says of a model that was trained with its matrices rounded: the formats it learnt to live with."""

from __future__ import annotations

import json
from pathlib import Path

from mamba_slm.core.errors import CheckpointError
from mamba_slm.model.quantization import Quantization

TRAINED_FOR_KEY = "trained_for"


def trained_for(folder: Path) -> Quantization | None:
    """The formats that the model in a model folder was trained for; None for any other model.

    Raises:
        CheckpointError: config.json cannot be read.
        ConfigError: it does not describe formats.
    """
    path = folder / "config.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8")).get(TRAINED_FOR_KEY)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a model config of mamba-slm: {error!r}") from error
    return None if stored is None else Quantization.from_json(stored, where=f"{path}: {TRAINED_FOR_KEY}")
