"""What may watch a run. The trainer calls hooks; it never imports evaluation or generation.

A hook may draw random numbers: the trainer puts every generator back afterwards. It must not change the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter, read_metrics
from mamba_slm.runs.status import StatusWriter
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.layers.report import LayerReport
from mamba_slm.training.reports import StepReport, ValidationReport
from mamba_slm.training.run_config import write_run_config

Sampler = Callable[[Any, int], list[dict[str, Any]]]
"""`sample(model, step)` gives rows with at least `prompt` and `text`."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What a hook may look at."""

    model: Any
    """The `LanguageModel`, in training mode; with sharded weights a copy for hooks that read it, else None."""
    run: RunDirectory
    step: int
    tokens: int
    seconds: float


class Hook:
    """Moments of a run. Derive from it and override what you need; the rest does nothing."""

    def reads_model(self, moment: str, step: int) -> bool:
        """Whether `view.model` is used then; collecting a model whose weights are sharded takes time and memory."""
        return moment not in ("on_step_end", "on_layers")

    def on_start(self, view: RunView) -> None:
        """Before the first step of this process; `view.step` is 0 unless the run was resumed."""

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        """After an optimiser step."""

    def on_layers(self, view: RunView, report: LayerReport) -> None:
        """After an optimiser step at which the trainer looked into the layers."""

    def on_validation(self, view: RunView, report: ValidationReport) -> None:
        """After a validation."""

    def on_checkpoint(self, view: RunView, folder: Path) -> None:
        """After a checkpoint is on the disk."""

    def on_end(self, view: RunView, reason: str) -> None:
        """After the last step and its checkpoint; not called when an error ends the run."""


class SampleHook(Hook):
    """Let the model write, from step 0 on, and keep it in samples.jsonl.

    Args:
        sample: `sample(model, step) -> rows`; each row has `prompt` and `text`.
        every_steps: steps between two samples.
        show: called with each row to print it.
    """

    def __init__(self, sample: Sampler, *, every_steps: int, show: Callable[[int, dict[str, Any]], None] | None = None):
        self.sample = sample
        self.every_steps = every_steps
        self.show = show

    def reads_model(self, moment: str, step: int) -> bool:
        if moment == "on_step_end":
            return step % self.every_steps == 0
        return moment in ("on_start", "on_end")

    def on_start(self, view: RunView) -> None:
        with MetricsWriter(view.run.samples_file) as writer:
            writer.truncate_after(view.step)
        # a kill between a checkpoint and its samples leaves them to be taken now
        sampled = any(row["step"] == view.step for row in read_metrics(view.run.samples_file))
        if view.step % self.every_steps == 0 and not sampled:
            self.take(view)

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        if view.step % self.every_steps == 0:
            self.take(view)

    def on_end(self, view: RunView, reason: str) -> None:
        if view.step % self.every_steps:
            self.take(view)

    def take(self, view: RunView) -> None:
        """Sample now."""
        rows = self.sample(view.model, view.step)
        with MetricsWriter(view.run.samples_file) as writer:
            for row in rows:
                writer.append({"step": view.step, "tokens": view.tokens, **row})
                if self.show:
                    self.show(view.step, row)


class StatusHook(Hook):
    """Keeps status.json alive while the run goes on."""

    def __init__(self, status: StatusWriter):
        self.status = status

    def reads_model(self, moment: str, step: int) -> bool:
        return False

    def on_start(self, view: RunView) -> None:
        self.status.update("running", step=view.step, message="training")

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        self.status.update("running", step=view.step, message="training")


class SettingsHook(Hook):
    """Writes the settings of a resumed run when it goes on, not before: what is refused changes nothing."""

    def __init__(self, config: TrainConfig, model: ModelConfig):
        self.config, self.model = config, model

    def reads_model(self, moment: str, step: int) -> bool:
        return False

    def on_start(self, view: RunView) -> None:
        write_run_config(view.run, self.config, self.model)


def call_all(hooks: Sequence[Hook], moment: str, *arguments: Any) -> None:
    """Call one moment of every hook, in their order."""
    for hook in hooks:
        getattr(hook, moment)(*arguments)
