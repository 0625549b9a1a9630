"""Watching that a run stays sound: finite losses and gradients, no spikes; and saying exactly what was not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

from mamba_slm.core.errors import TrainingDivergedError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.data.loader import Batch
from mamba_slm.runs.jsonl import without_nan
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.bad_batch import describe, documents_in, row_losses
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.events import Events
from mamba_slm.training.gradients import LossOf
from mamba_slm.training.spikes import SpikeDetector


class HealthWatch:
    """Looks at every step before its gradients touch the weights.

    Args:
        loss_of: asked for the loss of single rows when something is wrong, by all processes together.
        device: of its inputs.
        events: where spikes are reported.
        tokenizer: shows documents as text; without it they are shown as token ids.
        gather: collects what each process saw; all of them watch, and see the same loss.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: RunDirectory,
        *,
        loss_of: LossOf,
        device: str,
        events: Events,
        tokenizer: Tokenizer | None,
        gather: Callable[[Any], list[Any]] = lambda value: [value],
    ):
        self.gather = gather
        self.config, self.run, self.loss_of, self.device = config, run, loss_of, device
        self.events, self.tokenizer = events, tokenizer
        self.spikes = SpikeDetector(sigmas=config.spike_sigmas)
        self.last_good_step: int | None = None
        """Step of the newest checkpoint from before the current spike; None while there is no spike."""

    def inspect(
        self, batch: Batch, loss: float, grad_norm: float, *, step: int, saved_step: int | None, may_overflow: bool
    ) -> None:
        """Judge a step.

        Args:
            step: its number, from 1.
            saved_step: of the newest checkpoint; None when there is none.
            may_overflow: gradients that are not finite mean too large a loss scale (fp16), which the scaler handles.

        Raises:
            TrainingDivergedError: loss or gradients are not finite, or the loss has been high for too long.
        """
        if not math.isfinite(loss):
            self.diverged(f"the loss became {loss}", batch, loss, step=step, saved_step=saved_step)
        if not math.isfinite(grad_norm) and not may_overflow:
            what = f"the gradient norm became {grad_norm} (loss {loss:.3f})"
            self.diverged(what, batch, loss, step=step, saved_step=saved_step)
        self.watch_for_spikes(batch, loss, step=step, saved_step=saved_step)

    def watch_for_spikes(self, batch: Batch, loss: float, *, step: int, saved_step: int | None) -> None:
        """Report the step at which the loss jumps, remember the checkpoint before, and stop when it stays there."""
        was_in_spike = self.spikes.spike_start is not None
        threshold = self.spikes.threshold
        if not self.spikes.update(step, loss):
            self.last_good_step = None
            return
        if not was_in_spike:
            self.last_good_step = saved_step
            documents = self.in_all_rows(documents_in(batch, self.tokenizer), len(batch.inputs))
            self.events.add(
                step - 1,
                "spike",
                f"step {step}: the loss jumped to {loss:.3f} (mean {self.spikes.mean:.3f}, limit {threshold:.3f}); "
                f"in the batch: {describe(documents)}",
                loss=loss,
                threshold=threshold,
                documents=documents,
            )
        since, patience = self.spikes.spike_start or step, self.config.spike_patience_steps
        if patience and step - since + 1 >= patience:
            what = f"the loss has stayed above {threshold:.2f} since step {since}"
            self.diverged(what, batch, loss, step=step, saved_step=saved_step)

    def in_all_rows(self, documents: list[dict[str, Any]], rows: int) -> list[dict[str, Any]]:
        """The documents of all processes, whose rows follow each other."""
        gathered = self.gather(documents)
        return [{**entry, "row": entry["row"] + rank * rows} for rank, part in enumerate(gathered) for entry in part]

    def diverged(self, what: str, batch: Batch, loss: float, *, step: int, saved_step: int | None) -> NoReturn:
        """Write down the batch, and raise."""
        documents = self.in_all_rows(documents_in(batch, self.tokenizer), len(batch.inputs))
        losses = [loss for part in self.gather(row_losses(self.loss_of, batch, self.device)) for loss in part]
        inputs = [row for part in self.gather(batch.inputs.tolist()) for row in part]
        file = self.run.path / f"bad-batch-step-{step:08d}.json"
        content = {"step": step, "loss": loss, "row_losses": losses, "documents": documents}
        if self.events.writes:
            write_json_atomic(file, without_nan({**content, "inputs": inputs}))
        broken = [row for row, value in enumerate(losses) if not math.isfinite(value)]
        suspects = [entry for entry in documents if entry["row"] in broken] or documents
        self.events.add(step - 1, "diverged", f"step {step}: {what}", loss=loss, documents=documents)
        good = self.last_good_step if self.last_good_step is not None else saved_step
        kept = f"the last good checkpoint is step {good}" if good is not None else "there is no checkpoint yet"
        rate, usual = self.config.learning_rate, TrainConfig.learning_rate
        lower = usual if rate > 20 * usual else rate / 2  # halving leads nowhere from far above
        raise TrainingDivergedError(
            f"{what} at step {step}; {kept}; in the batch: {describe(suspects)}",
            hint=f"look at {file}; then continue with a lower rate: mamba-slm train --resume {self.run.path} "
            f"--learning-rate {lower:g}",
        )
