"""What an alignment leaves: RUN/adapter, RUN/model, RUN/alignment.json."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mamba_slm.finetuning.alignment.before_and_after import Measured, told
from mamba_slm.finetuning.alignment.changes import changes_of
from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.opened_model import OpenedModel, load, with_room_for
from mamba_slm.finetuning.outcome import write_model, write_outcome
from mamba_slm.finetuning.recording import OpenedRun
from mamba_slm.finetuning.run import changes_found
from mamba_slm.finetuning.template import ChosenTemplate
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.before_after import write_changes
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.reports import TrainResult


@dataclass(frozen=True, kw_only=True)
class AlignResult:
    """How an alignment ended."""

    training: TrainResult
    adapter: Path | None = None
    """The folder of the adapter."""
    model: Path | None = None
    """The folder of the finished model: trained in full, with the adapter merged, or a reward model."""
    measured: Measured | None = None
    """Held-out examples before and after."""
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
            "held_out": {} if self.measured is None else self.measured.summary(),
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
        }

    def __str__(self) -> str:
        lines = [f"{self.run}: {self.training.step:,} steps"]
        kept = " and ".join(folder.name for folder in (self.adapter, self.model) if folder is not None)
        lines[0] += f"; wrote {kept}" if kept else ""
        if self.measured is not None:
            for name, found in (("before", self.measured.before), ("after", self.measured.after)):
                lines += [f"  {name:<7} {told(found)}"] if found is not None else []
        return "\n".join(lines)


def keep_measured(opened: OpenedRun, found: AlignResult, kept_step: int) -> None:
    """The run is done: what it came to stands in run.json, and what reports compare in before_after.json."""
    measured = found.measured
    changes = changes_found(opened.directory, kept_step)
    if measured is not None and measured.before is not None and measured.after is not None:
        changes = [*changes_of(measured.before.columns, measured.after.columns), *changes]
    write_changes(found.run, changes)
    row, training = found.row(), found.training.row()
    opened.finish(found.training, **{name: value for name, value in row.items() if name not in training})


def open_scorer(
    config: AlignConfig, folder: Path, template: ChosenTemplate, *, run: Path, say: Callable[[str], None]
) -> OpenedModel:
    """A model that scores, made of one that answers, with adapters or in full; errors as `open_model`."""
    from mamba_slm.finetuning.alignment.reward_model import scorer_of

    folder = with_room_for(template, folder, run, say)
    causal = load(config, folder)  # type: ignore[arg-type]
    causal.model.gradient_checkpointing = config.gradient_checkpointing
    architecture = causal.config.architecture
    scorer = scorer_of(causal, pad_id=template.tokenizer.pad_id, seed=config.seed)
    if config.method == "full":
        return OpenedModel(scorer.requires_grad_(True), folder, architecture)
    from mamba_slm.finetuning.adapters.attach import attach
    from mamba_slm.finetuning.adapters.coverage import coverage

    torch.manual_seed(config.seed)
    adapted = attach(scorer, config.lora)
    say(str(coverage(adapted)))
    return OpenedModel(adapted, folder, architecture)


def write_what_was_trained(
    run: RunDirectory, config: AlignConfig, model: OpenedModel, template: ChosenTemplate, *, say: Callable[[str], None]
) -> tuple[Path | None, Path | None]:
    """Folders of the adapter and of the model. A reward model is always whole: adapters are added to its weights.

    Raises:
        DiskFullError: no room.
    """
    if config.objective != "reward":
        return write_outcome(run, config, model, template, config_note={}, say=say)  # type: ignore[arg-type]
    from mamba_slm.finetuning.alignment.reward_model import save_head
    from mamba_slm.model.checkpoint import load_model

    scorer: Any = model.model if config.method == "full" else copy.deepcopy(model.model).merge_and_unload()
    plain: LanguageModel = load_model(model.base)
    trained = scorer.model.state_dict()
    with torch.no_grad():
        for name, value in plain.state_dict().items():
            if name in trained:  # a head of its own stays as it was
                value.copy_(trained[name])
    folder = write_model(run.path / "model", plain, template)
    save_head(folder, scorer.score.weight)
    say("the reward model is RUN/model with reward_head.safetensors: mamba-slm align MODEL grpo --reward RUN")
    return None, folder
