"""The model that a fine-tuning trains: loaded as its method wants it, with room for new tokens, adapters attached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.errors import UsageError
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.template import ChosenTemplate
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.quantized import quantization_of
from mamba_slm.model.vocabulary import grown_vocabulary


@dataclass(frozen=True)
class OpenedModel:
    """What is trained."""

    model: Any
    """`HybridSlmForCausalLM`, or a `PeftModel` of it."""
    base: Path
    """The model folder that an adapter belongs to."""
    config: ModelConfig


def open_model(
    config: FinetuneConfig, folder: Path, template: ChosenTemplate, *, run: Path, say: Callable[[str], None]
) -> OpenedModel:
    """Load a model for training by `config.method`, with `config.device` and `config.precision` resolved.

    Args:
        folder: a model folder.
        template: whose tokenizer it must have rows for; a model that has too few is written to RUN/base with more.
        run: the run directory.

    Raises:
        UsageError: a quantized model with another method than qlora.
        ConfigError: no target of the adapter is in the model.
        MissingDependencyError: peft or bitsandbytes is not installed.
    """
    quantization = quantization_of(folder)
    if quantization is not None and config.method != "qlora":
        raise UsageError(
            f"{folder} is quantized ({quantization}), and --method {config.method} wants weights in floating point",
            hint="use --method qlora, or the model that it was made from",
        )
    folder = with_room_for(template, folder, run, say)
    model = load(config, folder)
    model.model.gradient_checkpointing = config.gradient_checkpointing
    model.model.draws_in_training = config.dropout > 0
    architecture = model.config.architecture
    if config.method == "full":
        model.requires_grad_(True)
        return OpenedModel(model, folder, architecture)
    from mamba_slm.finetuning.adapters.attach import attach
    from mamba_slm.finetuning.adapters.coverage import coverage

    torch.manual_seed(config.seed)  # of A, whatever was drawn before
    adapted = attach(model, config.lora)
    reached = coverage(adapted)
    say(str(reached))
    for name in reached.not_reached:
        say(f"not reached: {name}")
    return OpenedModel(adapted, folder, architecture)


def load(config: FinetuneConfig, folder: Path) -> Any:
    """The model of transformers, frozen unless it is trained in full."""
    from mamba_slm.model.hf import HybridSlmForCausalLM

    if config.method == "qlora":
        from mamba_slm.finetuning.qlora.base import load_four_bit_base

        products = torch.bfloat16 if config.precision == "bf16" else torch.float32
        return load_four_bit_base(folder, config.four_bit, device=config.device, dtype=products)
    is_half = config.base_weights == "bf16" or (
        config.base_weights == "auto" and config.precision == "bf16" and torch.device(config.device).type == "cuda"
    )
    dtype = torch.bfloat16 if is_half and config.method == "lora" else torch.float32
    model = HybridSlmForCausalLM.from_language_model(load_model(folder, device=config.device, dtype=dtype))
    model.config._name_or_path = str(folder)
    return model


def with_room_for(template: ChosenTemplate, folder: Path, run: Path, say: Callable[[str], None]) -> Path:
    """The model's folder; one in the run directory where the template's tokens need more rows than the model has.

    Raises:
        UsageError: a quantized model cannot get more rows.
    """
    from mamba_slm.model.checkpoint import load_config

    rows, needed = load_config(folder).vocab_size, template.tokenizer.vocab_size
    if needed <= rows:
        return folder
    if quantization_of(folder) is not None:
        raise UsageError(
            f"the chat template needs {needed} tokens, and the quantized model {folder} has {rows}",
            hint="use a template of tokens that it has, or the model that it was made from",
        )
    grown_folder = run / "base"
    if not grown_folder.is_dir():
        from mamba_slm.core.files import folder_written_atomically
        from mamba_slm.training.publishing import complete_for_transformers

        grown = grown_vocabulary(load_model(folder), needed)
        with folder_written_atomically(grown_folder) as writing:
            save_model(grown, writing)
            template.save(writing)
            complete_for_transformers(writing)
    say(f"{needed - rows} new tokens have rows, in {grown_folder}: the mean of all others with a little noise")
    return grown_folder
