"""The recorder: a callback that makes any transformers Trainer keep a run directory as `train` does.

The Trainer computes; the recorder decides when to log, validate, save and stop, and writes metrics.jsonl, status.json,
events.jsonl and checkpoints under the names that every reader of a run knows. What the Trainer logs beyond the loss,
such as the rewards of DPO, stands in the same row under its own name.

Order after a step: metrics row and hooks, validation, checkpoint. A kill between them costs the steps since the last
checkpoint, which a resumed run takes again; rows after it are removed first.
"""

from __future__ import annotations

import mamba_slm.finetuning.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback

from mamba_slm.core.errors import CheckpointError, TrainingDivergedError
from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.finetuning.checkpoints import commit_checkpoint, read_recorder_state, restore_trained
from mamba_slm.finetuning.step_pace import StepPace
from mamba_slm.finetuning.watch_config import WatchConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter, read_metrics
from mamba_slm.training.checkpoint import prune_checkpoints, remove_unfinished
from mamba_slm.training.events import Events
from mamba_slm.training.hooks import Hook, RunView, call_all
from mamba_slm.training.interrupt import StopRequest
from mamba_slm.training.random_state import random_states_kept
from mamba_slm.training.reports import StepReport, TrainResult, ValidationReport
from mamba_slm.training.validation import validations_since_best

OWN_KEYS = {"loss", "grad_norm", "learning_rate", "step", "epoch", "num_tokens", "num_input_tokens_seen"}
"""Of what a Trainer logs: what a row of metrics.jsonl has anyway."""
LAST_LOSSES = 20


class RunIsOver(Exception):
    """A resumed run has taken its last step already; the Trainer would take one more."""


class RunRecorder(TrainerCallback):
    """Keeps the run directory of one training.

    Args:
        run: the caller owns its lock.
        config: when to do what.
        device: resolved, as torch names it.
        stop: asked after every step.
        hooks: as of `training.hooks`; `view.model` is the model that the Trainer trains.
        say: takes lines for people.
        before_save: called before a checkpoint counts, for example `RunLock.assert_owned`.
        tokenizer_file: copied into every checkpoint.
        clock: seconds from any start.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: WatchConfig,
        *,
        device: str,
        stop: StopRequest,
        hooks: Sequence[Hook] = (),
        say: Callable[[str], None] = print,
        before_save: Callable[[], None] = lambda: None,
        tokenizer_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.run, self.config, self.device, self.stop = run, config, device, stop
        self.hooks, self.say, self.before_save = list(hooks), say, before_save
        self.tokenizer_file, self.clock = tokenizer_file, clock
        self.events = Events(run, say)
        self.checkpoint: Path | None = None
        """To go on from; set by whoever resumes, before the training begins."""
        self.has_validation = False
        self.pace = StepPace(device, log_every_steps=config.log_every_steps)
        self.metrics: MetricsWriter | None = None
        self.model: Any = None
        self.view_of: Callable[[Any], Any] = lambda model: model
        """From the model that the Trainer trains to the one that hooks look at."""
        self.step = 0
        self.seconds_before = 0.0
        self.started = self.step_started = self.saved_at = clock()
        self.best_step: int | None = None
        self.validations: dict[int, float] = {}
        self.recent_losses: deque[float] = deque(maxlen=LAST_LOSSES)
        self.peak_memory_bytes = 0
        self.last_report: StepReport | None = None
        self.last_saved: int | None = None
        self.total_steps: int | None = None
        self.reason = ""

    # moments of the Trainer -------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_moment: Any) -> None:
        """Begin, or go on from the checkpoint; remove what an earlier process wrote after it."""
        self.model, self.step, self.total_steps = model, state.global_step, state.max_steps
        if self.checkpoint is not None:
            self.restore()
        self.metrics = MetricsWriter(self.run.metrics_file)
        self.metrics.truncate_after(self.step if self.checkpoint is not None else -1)
        with MetricsWriter(self.run.events_file) as events:
            events.truncate_after(self.step)
        for row in read_metrics(self.run.metrics_file, kind="validation"):
            self.validations[row["step"]] = math.nan if row["loss"] is None else row["loss"]
        if self.checkpoint is not None:
            where = f"{self.checkpoint.name}, {format_seconds(self.seconds_before)} so far"
            self.events.add(self.step, "resumed", f"continuing after step {self.step:,} ({where})")
        self.started = self.step_started = self.saved_at = self.clock()
        self.pace.begin(progress=self.progress(), seconds=self.seconds_before)
        self.call_hooks("on_start")
        if self.step >= state.max_steps:
            self.on_train_end(args, state, control)
            raise RunIsOver

    def on_step_begin(self, args: Any, state: Any, control: Any, **_moment: Any) -> None:
        """A step whose batch is read; sampling and saving before it are no part of it."""
        self.step_started = self.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_moment: Any) -> None:
        """Decide what follows the step."""
        self.step = state.global_step
        reason = self.reason_to_end(state)
        control.should_log = True
        control.should_evaluate = self.has_validation and (
            self.step % self.config.validate_every_steps == 0 or (reason is not None and self.stop.requested is None)
        )
        control.should_save = control.should_evaluate or reason is not None or self.is_save_due()
        if reason is not None:
            self.reason, control.should_training_stop = reason, True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_moment: Any
    ) -> None:
        """Write the row of a step; other things that a Trainer logs are left out.

        Raises:
            TrainingDivergedError: loss or gradient is not finite; earlier checkpoints are as they were.
        """
        already = self.last_report is not None and self.last_report.step >= state.global_step
        if not logs or "loss" not in logs or already:
            return
        report = self.pace.report(state, logs, step_seconds=self.clock() - self.step_started, seconds=self.seconds())
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.memory_bytes)
        self.recent_losses.append(report.loss)
        if not math.isfinite(report.loss) or not math.isfinite(report.grad_norm):
            what = "loss" if not math.isfinite(report.loss) else "gradient"
            message = f"the {what} of step {report.step:,} is not finite"
            self.events.add(report.step, "diverged", message)
            saved = self.run.latest()
            raise TrainingDivergedError(
                message,
                hint=f"lower the rate: --learning-rate {report.learning_rate / 3:.1g}"
                + (f"; the last checkpoint is {saved.name}" if saved else ""),
            )
        assert self.metrics is not None
        further = {name: value for name, value in logs.items() if name not in OWN_KEYS and is_number(value)}
        self.metrics.append(report.row() | further)
        self.last_report = report
        line = self.pace.line(
            report, total_steps=self.total_steps, progress=self.progress(), is_last=control.should_training_stop
        )
        if line is not None:
            self.say(line)
        self.call_hooks("on_step_end", report)
        if self.stop.requested is not None and not control.should_training_stop:  # asked since the step ended
            self.reason, control.should_save, control.should_training_stop = self.stop.requested, True, True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **_moment: Any
    ) -> None:
        """Write the row of a validation; remember whether it is the best."""
        if not metrics or "eval_loss" not in metrics:
            return
        found = {name.removeprefix("eval_"): value for name, value in metrics.items() if is_number(value)}
        loss, bits = float(found.pop("loss")), found.pop("bits_per_byte", None)
        self.validations[self.step] = loss
        is_best = self.step > 0 and validations_since_best(self.trained_losses()) == 0
        if is_best:
            self.best_step = self.step
        report = ValidationReport(
            step=self.step, tokens=self.pace.tokens, loss=loss, bits_per_byte=bits, is_best=is_best
        )
        left_out = ("runtime", "samples_per_second", "steps_per_second", "epoch", "model_preparation_time")
        assert self.metrics is not None
        self.metrics.append(report.row() | {name: value for name, value in found.items() if name not in left_out})
        told = f", {bits:.3f} bits per byte" if bits is not None else ""
        accuracy = found.get("rewards/accuracies", found.get("accuracy"))
        told += f", accuracy {accuracy:.1%}" if accuracy is not None else ""
        self.say(f"validation at step {self.step}: loss {loss:.3f}{told}{' (best so far)' if is_best else ''}")
        self.call_hooks("on_validation", report)
        patience = self.config.early_stop_patience
        if patience is not None and not self.reason and validations_since_best(self.trained_losses()) >= patience:
            self.reason = f"no better validation loss in the last {patience} validations"
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_moment: Any) -> None:
        """Make what the Trainer wrote a checkpoint of the run."""
        self.before_save()
        assert self.metrics is not None
        self.metrics.sync()
        folder = commit_checkpoint(
            self.run,
            self.step,
            model=self.model if model is None else model,
            recorder=self.state(),
            tokenizer_file=self.tokenizer_file,
        )
        self.last_saved, self.saved_at = self.step, self.clock()
        if self.best_step == self.step:
            self.run.mark_best(self.step)
        prune_checkpoints(self.run.checkpoints(), keep_last=self.config.keep_last, keep=(self.run.best(),))
        self.call_hooks("on_checkpoint", folder)

    def on_train_end(self, args: Any, state: Any, control: Any, **_moment: Any) -> None:
        """Say how it ended."""
        self.reason = self.reason or f"reached {self.step:,} steps"
        if self.stop.requested is None:
            self.call_hooks("on_end", self.reason)
        self.say(
            f"{'done' if self.stop.requested is None else 'stopped'} after step {self.step:,} ({self.reason}): "
            f"{format_seconds(self.seconds())}, memory at most {format_bytes(self.peak_memory_bytes)}"
        )

    def trained_losses(self) -> list[float]:
        """Losses of the validations so far, in their order, without the one before the first step."""
        return [self.validations[step] for step in sorted(self.validations) if step > 0]

    # deciding ---------------------------------------------------------------------------------------------------------

    def reason_to_end(self, state: Any) -> str | None:
        """Why this step is the last one, or None."""
        if self.stop.requested is not None:
            return self.stop.requested
        minutes = self.config.max_minutes
        if minutes is not None and self.seconds() >= 60 * minutes:
            return f"reached {minutes:g} minutes"
        if state.global_step >= state.max_steps:
            return f"reached {state.max_steps:,} steps"
        return None

    def is_save_due(self) -> bool:
        """Whether a checkpoint is due, by steps or by time."""
        minutes = self.config.save_every_minutes
        by_time = minutes is not None and self.clock() - self.saved_at >= 60 * minutes
        return by_time or self.step % self.config.save_every_steps == 0

    def seconds(self) -> float:
        """Wall time of the run so far, earlier processes included."""
        return self.seconds_before + self.clock() - self.started

    def progress(self) -> float:
        """Share of the run that is done: of its steps or of its minutes, whichever is larger."""
        by_steps = self.step / self.total_steps if self.total_steps else 0.0
        minutes = self.config.max_minutes
        by_time = self.seconds() / (60 * minutes) if minutes is not None else 0.0
        return min(1.0, max(by_steps, by_time))

    # writing ----------------------------------------------------------------------------------------------------------

    def call_hooks(self, moment: str, *arguments: Any) -> None:
        """Call one moment of all hooks; random generators and the training mode are as before afterwards."""
        model = None if self.model is None else self.view_of(self.model)
        view = RunView(model=model, run=self.run, step=self.step, tokens=self.pace.tokens, seconds=self.seconds())
        was_training = bool(getattr(self.model, "training", False))
        with random_states_kept(), torch.no_grad():
            call_all(self.hooks, moment, view, *arguments)
        if self.model is not None:
            self.model.train(was_training)

    # state ------------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the Trainer's own state, as JSON."""
        return {
            "step": self.step,
            "tokens": self.pace.tokens,
            "seconds": self.seconds(),
            "peak_memory_bytes": self.peak_memory_bytes,
            "recent_losses": list(self.recent_losses),
            "best_step": self.best_step,
            "threads": torch.get_num_threads(),
        }

    def restore(self) -> None:
        """Go on from `checkpoint`, which the Trainer has read.

        Raises:
            CheckpointError: it is not a checkpoint of this run.
        """
        assert self.checkpoint is not None
        state = read_recorder_state(self.checkpoint)
        try:
            self.step, self.pace.tokens, self.seconds_before = state["step"], state["tokens"], state["seconds"]
            self.peak_memory_bytes, self.best_step = state["peak_memory_bytes"], state["best_step"]
            self.recent_losses.extend(state["recent_losses"])
            threads = state["threads"]
        except KeyError as error:
            raise CheckpointError(f"{self.checkpoint} has no {error}") from error
        restore_trained(self.checkpoint, self.model)
        self.last_saved = self.step
        if threads != torch.get_num_threads():
            what = f"not the same to the last bit: threads {threads} before, {torch.get_num_threads()} now"
            self.events.add(self.step, "changed", what)

    def result(self) -> TrainResult:
        """How the run ended."""
        losses = [loss for loss in self.trained_losses() if not math.isnan(loss)]
        return TrainResult(
            run=self.run.path,
            reason=self.reason,
            interrupted=self.stop.requested is not None,
            step=self.step,
            tokens=self.pace.tokens,
            seconds=self.seconds(),
            loss=sum(self.recent_losses) / len(self.recent_losses) if self.recent_losses else None,
            best_validation_loss=min(losses, default=None),
            last_checkpoint=self.run.latest(),
            best_checkpoint=self.run.best(),
            memory_bytes=self.peak_memory_bytes,
        )

    def close(self) -> None:
        """Close the metrics file, and clear away what the Trainer left unfinished."""
        if self.metrics is not None:
            self.metrics.close()
            self.metrics = None
        remove_unfinished(self.run.checkpoints_folder)


def is_number(value: Any) -> bool:
    """Whether a logged value is a plain number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
