"""What an export starts from: a model of ours in float32, its numbers where it is quantized, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mamba_slm.core.errors import CheckpointError, DataError
from mamba_slm.model.checkpoint import load_model, resolve_model_folder
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.packed import dequantized_model
from mamba_slm.model.quantized import is_quantized, open_quantized
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.text.tokenizer import FILE_NAME, Tokenizer


@dataclass(frozen=True)
class Source:
    """A model to write in another format."""

    folder: Path
    """The model folder that the path led to."""
    model: LanguageModel
    """In float32, in evaluation mode, on the CPU; of a quantized model with the values that its numbers stand for."""
    tokenizer: Tokenizer | None
    """None where the folder has none and none was needed."""
    quantized: Mapping[str, QuantizedBlocks] = field(default_factory=dict)
    """Of a quantized model, by the name of the tensor: the matrices as they are stored."""

    @property
    def config(self) -> ModelConfig:
        """The model's config."""
        return self.model.config


def open_source(path: Path | str, *, needs_tokenizer: bool = True) -> Source:
    """Load a run directory, a checkpoint or a model folder. What is wrong is said before the weights are read.

    Raises:
        DataError: nothing there is a model, or the tokenizer is missing or broken.
        CheckpointError: a damaged model, or a tokenizer larger than it.
    """
    folder = resolve_model_folder(path)
    tokenizer = None
    if needs_tokenizer or (folder / FILE_NAME).is_file():
        if not (folder / FILE_NAME).is_file():
            raise DataError(
                f"{folder} has no {FILE_NAME}",
                hint=f"copy the {FILE_NAME} that the model was trained with into the folder",
            )
        tokenizer = Tokenizer.load(folder)
    if is_quantized(folder):
        model, quantized = read_quantized(folder)
    else:
        model, quantized = load_model(folder), {}
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{folder} holds a tokenizer of {tokenizer.vocab_size} tokens, but a model of {model.config.vocab_size}",
            hint=f"copy the {FILE_NAME} that the model was trained with into the folder",
        )
    return Source(folder, model, tokenizer, quantized)


def read_quantized(folder: Path) -> tuple[LanguageModel, dict[str, QuantizedBlocks]]:
    """A quantized model: what its numbers stand for, in float32, and the numbers, by the name of the tensor."""
    stored = open_quantized(folder)
    matrices = dict(stored.matrices)
    numbers = {f"{name}.weight": each for name, each in matrices.items() if isinstance(each, QuantizedBlocks)}
    return dequantized_model(stored.config, matrices, stored.others), numbers
