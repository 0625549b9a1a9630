"""What a fine-tuning leaves: RUN/adapter, RUN/model, and how much better the held-out examples have become."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.files import folder_written_atomically
from mamba_slm.finetuning.checkpoints import restore_trained
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.opened_model import OpenedModel
from mamba_slm.finetuning.shared_model import merged_language_model
from mamba_slm.finetuning.template import ChosenTemplate
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.publishing import complete_for_transformers
from mamba_slm.training.reports import TrainResult


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """How a fine-tuning ended."""

    training: TrainResult
    adapter: Path | None = None
    """The folder of the adapter."""
    model: Path | None = None
    """The folder of the finished model: trained in full, or with the adapter merged."""
    loss_before: float | None = None
    """On the held-out examples, before the first step, in nats per learned token."""
    loss_after: float | None = None
    """Of what was kept."""
    trained_parameters: int = 0
    parameters: int = 0

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.training.run

    @property
    def interrupted(self) -> bool:
        """Whether it is to be resumed."""
        return self.training.interrupted

    def row(self) -> dict[str, Any]:
        """For `--json` and run.json."""
        return {
            **self.training.row(),
            "adapter": None if self.adapter is None else self.adapter.name,
            "model": None if self.model is None else self.model.name,
            "validation_loss_before": self.loss_before,
            "validation_loss_after": self.loss_after,
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
        }

    def __str__(self) -> str:
        training = self.training
        text = f"{training.run}: {training.step:,} steps"
        if self.loss_before is not None and self.loss_after is not None:
            change = (self.loss_after - self.loss_before) / self.loss_before
            text += f", held-out loss {self.loss_before:.3f} → {self.loss_after:.3f} ({change:+.1%})"
        elif training.loss is not None:
            text += f", loss {training.loss:.3f}"
        kept = " and ".join(folder.name for folder in (self.adapter, self.model) if folder is not None)
        return f"{text}; wrote {kept}" if kept else text


def kept_losses(validations: Mapping[int, float], kept_step: int) -> tuple[float | None, float | None]:
    """Held-out loss before the first step and of the step that is kept; None where it was not measured.

    >>> kept_losses({0: 3.0, 100: 2.5, 150: 2.6}, 100)
    (3.0, 2.5)
    """
    return validations.get(0), validations.get(kept_step) if kept_step > 0 else None


def go_back_to(checkpoint: Path, opened: OpenedModel, *, is_adapter: bool) -> None:
    """Give the model the trained weights of a checkpoint, which was the best."""
    if is_adapter:
        restore_trained(checkpoint, opened.model)
        return
    best = load_model(checkpoint)
    parameters = dict(merged_language_model(opened.model).named_parameters())
    with torch.no_grad():
        for name, value in best.named_parameters():
            parameters[name].copy_(value)


def write_outcome(
    run: RunDirectory,
    config: FinetuneConfig,
    opened: OpenedModel,
    template: ChosenTemplate,
    *,
    config_note: Mapping[str, Any],
    say: Callable[[str], None],
) -> tuple[Path | None, Path | None]:
    """Write what was trained; returns the folders of the adapter and of the model.

    Args:
        config_note: further keys for the model's config.json.

    Raises:
        DiskFullError: no room.
    """
    if config.method == "full":
        return None, write_model(
            run.path / "model", merged_language_model(opened.model), template, config_note=config_note
        )
    from mamba_slm.finetuning.adapters.folder import base_of, save_adapter

    adapter, new = run.path / "adapter", run.path / ".adapter.new"
    shutil.rmtree(new, ignore_errors=True)
    save_adapter(opened.model, new, base_of(opened.base), settings=config.lora)
    template.save(new)
    shutil.rmtree(adapter, ignore_errors=True)
    new.rename(adapter)
    if not config.merge:
        return adapter, None
    return adapter, write_model(run.path / "model", merged(config, opened.base, adapter, say), template)


def merged(config: FinetuneConfig, base: Path, adapter: Path, say: Callable[[str], None]) -> LanguageModel:
    """The base with the adapter in its weights: for qlora the numbers that the 4 bits stand for, which were trained."""
    if config.method == "qlora":
        from mamba_slm.finetuning.qlora.merge import merge_over_four_bits

        found = merge_over_four_bits(base, adapter, config.four_bit)
        say(str(found))
        return found.model
    from mamba_slm.model.adapter import merge
    from mamba_slm.model.adapter_choice import AdapterChoice

    model = load_model(base)
    merge(model, [AdapterChoice(folder=adapter)])
    return model


def write_model(
    folder: Path, model: LanguageModel, template: ChosenTemplate, *, config_note: Mapping[str, Any] | None = None
) -> Path:
    """Write a model folder with tokenizer and chat template, whole or not at all; one of the same name is replaced."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with folder_written_atomically(new) as writing:
        save_model(model, writing, extra_config=dict(config_note or {}))
        template.save(writing)
        complete_for_transformers(writing)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return folder
