"""A model and its tokenizer from one path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from mamba_slm.core.errors import CheckpointError, SetupError
from mamba_slm.model.checkpoint import load_model, resolve_model_folder
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """What one needs to talk with a model."""

    model: LanguageModel
    tokenizer: Tokenizer
    folder: Path
    """The model folder that the path led to."""


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device for `auto`, `cpu` or `cuda[:i]`, and why it was chosen.

    Raises:
        SetupError: there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), "auto: a GPU is there"
        return torch.device("cpu"), "auto: no GPU found"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError when built without CUDA
        raise SetupError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}", hint="use --device auto, cpu or cuda"
        ) from error
    return device, "asked for"


def load(path: Path | str, *, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model folder, a training checkpoint or the best checkpoint of a run directory.

    Raises:
        CheckpointError: no model there, a damaged one, or a tokenizer that does not belong to it.
        DataError: the tokenizer is missing or broken.
    """
    folder = resolve_model_folder(Path(path))
    tokenizer = Tokenizer.load(folder)
    model = load_model(folder, device=device)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{folder} holds a tokenizer of {tokenizer.vocab_size} tokens, but a model of {model.config.vocab_size}",
            hint="copy the tokenizer.json that the model was trained with into the folder",
        )
    return LoadedModel(model.eval(), tokenizer, folder)
