"""Where the weights of a run begin: new ones, or those of a model that exists."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.model.checkpoint import load_model, resolve_model_folder
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.vocabularies.opening import FILE_NAME
from mamba_slm.training.config import TrainConfig


def first_model(
    config: TrainConfig, model_config: ModelConfig, *, device: str, is_resumed: bool = False
) -> LanguageModel:
    """The model before the first step: `config.initial`'s weights where given, else new ones from the seed.

    A resumed run gets its weights from a checkpoint afterwards, and on "meta" there are none.

    Raises:
        CheckpointError: the model named is of other sizes.
        DataError: no model there.
    """
    model = build_model(model_config, seed=config.seed, device=device)
    if config.initial is None or is_resumed or device == "meta":
        return model
    try:
        model.load_state_dict(load_model(config.initial, device=device).state_dict())
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2]
        raise CheckpointError(
            f"the weights of {config.initial} do not fit this run's model: {''.join(first).strip() or error}",
            hint="leave --model-settings that change sizes out",
        ) from None
    return model


def tokenizer_for(config: TrainConfig) -> str | None:
    """The tokenizer that the settings name; that of the initial model where they name none.

    Raises:
        ConfigError: the initial model has none beside it.
    """
    if config.tokenizer is not None or config.initial is None:
        return config.tokenizer
    folder = Path(resolve_model_folder(config.initial))
    if not (folder / FILE_NAME).is_file():
        raise ConfigError(
            f"{folder} has no {FILE_NAME}, and its weights mean nothing without it",
            hint="give it with --tokenizer PATH",
        )
    return str(folder / FILE_NAME)
