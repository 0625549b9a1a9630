"""The loop: batch → loss → gradients → update → save → measure, until a limit, an early stop or a signal.

Order at the end of a step: metrics row, checkpoint, validation, hooks. Saving comes before measuring, so that a failure
while measuring costs nothing; what a kill left unmeasured is measured when the run is resumed.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.data.loader import Batch
from mamba_slm.model.count import train_flops_per_token
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter, read_metrics
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.checkpoint import (
    load_checkpoint,
    newest_valid_checkpoint,
    prune_checkpoints,
    remove_unfinished,
    save_checkpoint,
)
from mamba_slm.training.compiling import compile_sublayers
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.events import Events
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients
from mamba_slm.training.health import HealthWatch
from mamba_slm.training.hooks import Hook, RunView, call_all
from mamba_slm.training.interrupt import StopRequest
from mamba_slm.training.memory import memory_bytes
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.pace import Pace
from mamba_slm.training.peak import Peak
from mamba_slm.training.precision import Precision, choose_precision
from mamba_slm.training.random_state import random_states, random_states_kept, set_random_states
from mamba_slm.training.reports import StepReport, TrainResult, ValidationReport
from mamba_slm.training.validation import token_lengths, validate, validations_since_best


class Loader(Protocol):
    """An endless source of batches that can say and restore where it is."""

    def __next__(self) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Trainer:
    """Trains one model on one device.

    Args:
        model: float32, on its device.
        loader: each batch is one optimiser step of `config.rows_per_step` rows; moving on the state is its own.
        config: with `device` and `precision` resolved or "auto".
        run: where metrics and checkpoints go; the caller owns its lock.
        validation: gives the same batches at every call; None means no validation.
        hooks: called in their order.
        tokenizer: for bits per byte and for showing what a bad batch held.
        tokenizer_file: copied into every checkpoint.
        peak: what MFU refers to.
        say: takes lines for people.
        before_save: called before a checkpoint is written, for example `RunLock.assert_owned`.
        clock: seconds from any start; replaced in tests.
    """

    def __init__(
        self,
        model: LanguageModel,
        loader: Loader,
        config: TrainConfig,
        run: RunDirectory,
        *,
        validation: Callable[[], Iterable[Batch]] | None = None,
        hooks: Sequence[Hook] = (),
        tokenizer: Tokenizer | None = None,
        tokenizer_file: Path | None = None,
        peak: Peak | None = None,
        say: Callable[[str], None] = print,
        before_save: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.model, self.loader, self.config, self.run = model, loader, config, run
        self.validation, self.hooks, self.say = validation, hooks, say
        self.tokenizer, self.tokenizer_file = tokenizer, tokenizer_file
        self.before_save, self.clock = before_save, clock
        self.limits, self.schedule = config.limits(), config.run_schedule()

        self.device = str(next(model.parameters()).device)
        self.precision = Precision(choose_precision(config.precision, self.device).value, self.device)  # type: ignore[arg-type]
        self.optimizer = build_optimizer(
            model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
            epsilon=config.epsilon,
        )
        model.gradient_checkpointing = config.gradient_checkpointing
        if config.compile:
            compile_sublayers(model, self.device)
        self.pace = Pace(
            batch_tokens=config.batch_tokens,
            flops_per_token=train_flops_per_token(model.config, config.context_tokens),
            peak=peak,
            limits=self.limits,
        )
        self.bytes_per_token = token_lengths(tokenizer) if tokenizer and validation else None

        self.step = 0
        self.tokens = 0
        self.events = Events(run, say)
        self.health = HealthWatch(model, config, run, events=self.events, tokenizer=tokenizer)
        self.saved_step: int | None = None
        self.last_report: StepReport | None = None
        self.recent_losses: deque[float] = deque(maxlen=20)
        self.peak_memory_bytes = 0
        self.seconds_before = 0.0  # of earlier processes of this run
        self.started = self.saved_at = self.clock()
        self.validations: dict[int, float] = {}  # loss by step; early stopping has no other state
        self.stop = StopRequest(announce=say)

    # the loop ---------------------------------------------------------------------------------------------------------

    def train(self, *, resume: bool = False) -> TrainResult:
        """Run to the end. With `resume`, continue from the newest intact checkpoint, or from the start without one.

        The first SIGINT or SIGTERM ends the run after the current step, with everything saved; the result says
        `interrupted`.

        Raises:
            TrainingDivergedError: a loss or gradient is not finite, or the loss stayed high; names step and documents.
            CheckpointError: every checkpoint is damaged, or they belong to another model.
            DiskFullError: no room for a checkpoint; the earlier ones are intact.
        """
        with self.stop, MetricsWriter(self.run.metrics_file) as self.metrics:
            self.begin(resume)
            while (reason := self.reason_to_end()) is None:
                self.train_one_step()
            if self.last_report is not None and self.pace.steps:
                self.say(self.pace.line(self.last_report, progress=self.progress()))
            if self.saved_step != self.step:
                self.save()
            if self.stop.requested is None:
                self.finish(reason)
        return self.result(self.stop.requested or reason)

    def train_one_step(self) -> None:
        """One optimiser step, and what is due after it."""
        start = self.clock()
        batch = next(self.loader)
        learning_rate = self.set_learning_rate()
        loss, grad_norm = self.compute_gradients(batch)
        self.health.inspect(
            batch,
            loss,
            grad_norm,
            step=self.step + 1,
            saved_step=self.saved_step,
            may_overflow=self.precision.scales,
        )
        self.update_weights(grad_norm)
        self.step += 1
        self.tokens += self.config.batch_tokens

        report = self.report(loss, grad_norm, learning_rate, step_seconds=self.clock() - start)
        self.metrics.append(report.row())
        if self.step % self.config.log_every_steps == 0 or self.pace.is_first_line:
            self.say(self.pace.line(report, progress=self.progress()))
        self.last_report = report
        if self.is_save_due():
            self.save()
        if self.is_validation_due():
            self.measure()
        self.call_hooks("on_step_end", report)

    def begin(self, resume: bool) -> None:
        """Start at step 0 or at a checkpoint, and make up for what a kill left undone."""
        remove_unfinished(self.run.checkpoints_folder)
        if resume:
            self.restore()
        self.metrics.truncate_after(self.step)
        with MetricsWriter(self.run.events_file) as events:
            events.truncate_after(self.step)
        self.validations = {
            row["step"]: math.nan if row["loss"] is None else row["loss"]
            for row in read_metrics(self.run.metrics_file, kind="validation")
        }
        self.model.train()
        self.started = self.saved_at = self.clock()
        self.pace.begin(progress=self.progress(), seconds=self.seconds())
        self.call_hooks("on_start")
        if self.step > 0 and self.is_validation_due():
            self.measure()

    def reason_to_end(self) -> str | None:
        """Why the loop ends now, or None."""
        if self.stop.requested is not None:
            return self.stop.requested
        reached = self.limits.reached(tokens=self.tokens, steps=self.step, seconds=self.seconds())
        if reached is not None:
            return f"reached {reached}"
        patience = self.config.early_stop_patience
        if patience is not None and validations_since_best(list(self.validations.values())) >= patience:
            return f"no better validation loss in the last {patience} validations"
        return None

    def finish(self, reason: str) -> None:
        """Measure the end of the run, which is saved."""
        if self.validation is not None and self.step not in self.validations:
            self.measure()
        if self.stop.requested is None:
            self.call_hooks("on_end", reason)

    # one step ---------------------------------------------------------------------------------------------------------

    def set_learning_rate(self) -> float:
        """The rate of the step about to be taken: that of the progress at its end, so that the first is not 0."""
        progress = self.limits.progress(
            tokens=self.tokens + self.config.batch_tokens, steps=self.step + 1, seconds=self.seconds()
        )
        learning_rate = self.schedule.learning_rate_at(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def compute_gradients(self, batch: Batch) -> tuple[float, float]:
        """Mean loss of the batch, and the norm of its gradients before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = accumulate_gradients(
            self.model,
            batch,
            rows_at_once=self.config.rows_at_once,
            precision=self.precision,
            device=self.device,
        )
        self.precision.scaler.unscale_(self.optimizer)
        return loss, clip_gradients(self.model.parameters(), self.config.clip_norm)

    def update_weights(self, grad_norm: float) -> None:
        """Take the optimiser step; under fp16 an overflow skips it and halves the loss scale."""
        if not math.isfinite(grad_norm):
            self.events.add(
                self.step, "overflow", f"step {self.step + 1}: fp16 overflow, step skipped", scale=self.precision.scale
            )
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()

    # saving and measuring ---------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint and delete those that are no longer kept."""
        self.before_save()
        self.metrics.sync()
        folder = self.run.checkpoint_folder(self.step)
        save_checkpoint(
            folder,
            model=self.model,
            optimizer=self.optimizer,
            state=self.state_dict(),
            tokenizer_file=self.tokenizer_file,
        )
        self.saved_step, self.saved_at = self.step, self.clock()
        self.prune()
        self.call_hooks("on_checkpoint", folder)

    def prune(self) -> None:
        """Keep the newest checkpoints, the best, and the last good one before a spike."""
        step = self.health.last_good_step
        good = None if step is None else self.run.checkpoint_folder(step)
        prune_checkpoints(self.run.checkpoints(), keep_last=self.config.keep_last, keep=(self.run.best(), good))

    def measure(self) -> None:
        """Validate, after saving; mark the best checkpoint."""
        if self.saved_step != self.step:
            self.save()
        assert self.validation is not None
        with random_states_kept():
            measured = validate(
                self.model,
                self.validation(),
                rows_at_once=self.config.rows_at_once,
                precision=self.precision,
                device=self.device,
                bytes_per_token=self.bytes_per_token,
                is_stopped=lambda: self.stop.requested is not None,
            )
        if measured is None:
            return
        loss, bits_per_byte = measured
        self.validations[self.step] = loss
        is_best = validations_since_best(list(self.validations.values())) == 0
        report = ValidationReport(
            step=self.step, tokens=self.tokens, loss=loss, bits_per_byte=bits_per_byte, is_best=is_best
        )
        if is_best:
            self.run.mark_best(self.step)
        self.metrics.append(report.row())
        self.prune()
        bits = f", {bits_per_byte:.3f} bits per byte" if bits_per_byte is not None else ""
        self.say(f"validation at step {self.step}: loss {loss:.3f}{bits}{' (best so far)' if is_best else ''}")
        self.call_hooks("on_validation", report)

    def is_save_due(self) -> bool:
        """Whether a checkpoint is due by steps or by time."""
        minutes = self.config.save_every_minutes
        by_time = minutes is not None and self.clock() - self.saved_at >= 60 * minutes
        return by_time or self.step % self.config.save_every_steps == 0

    def is_validation_due(self) -> bool:
        """Whether this step is to be validated and has not been."""
        due = self.validation is not None and self.step % self.config.validate_every_steps == 0
        return due and self.step not in self.validations

    # state ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything besides weights and moments that the next step depends on, as JSON."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds(),
            "loader": self.loader.state_dict(),
            "random": random_states(),
            "loss_scale": self.precision.scaler.state_dict(),
            "spikes": self.health.spikes.state_dict(),
            "last_good_step": self.health.last_good_step,
            "peak_memory_bytes": self.peak_memory_bytes,
            "recent_losses": list(self.recent_losses),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def restore(self) -> None:
        """Continue from the newest intact checkpoint; say what was passed over."""

        def damaged(folder: Path, why: str) -> None:
            self.events.add(
                self.step, "damaged checkpoint", f"{why}; using the checkpoint before it", checkpoint=folder.name
            )

        folder = newest_valid_checkpoint(self.run.checkpoints(), on_damaged=damaged)
        if folder is None:
            self.say("there is no checkpoint yet: starting at step 0")
            return
        state = load_checkpoint(folder, model=self.model, optimizer=self.optimizer)
        try:
            self.step, self.tokens, self.seconds_before = state["step"], state["tokens"], state["seconds"]
            self.loader.load_state_dict(state["loader"])
            if self.precision.name == "fp16" and state["loss_scale"]:
                self.precision.scaler.load_state_dict(state["loss_scale"])
            self.health.spikes.load_state_dict(state["spikes"])
            self.health.last_good_step = state["last_good_step"]
            self.peak_memory_bytes = state["peak_memory_bytes"]
            self.recent_losses.extend(state["recent_losses"])
            set_random_states(state["random"])
            changed = [
                f"{name} {state[name]} before, {now} now"
                for name, now in (("threads", torch.get_num_threads()), ("torch", torch.__version__))
                if state[name] != now
            ]
        except KeyError as error:
            raise CheckpointError(f"{folder}/trainer.json has no {error}") from error
        self.saved_step = self.step
        so_far = format_seconds(self.seconds_before)
        self.events.add(self.step, "resumed", f"continuing after step {self.step:,} ({folder.name}, {so_far} so far)")
        if changed:
            what = f"not the same to the last bit as an uninterrupted run: {'; '.join(changed)}"
            self.events.add(self.step, "changed", what)

    def seconds(self) -> float:
        """Wall time of the run so far, earlier processes included."""
        return self.seconds_before + self.clock() - self.started

    def progress(self) -> float:
        """Share of the run that is done."""
        return self.limits.progress(tokens=self.tokens, steps=self.step, seconds=self.seconds())

    # reporting --------------------------------------------------------------------------------------------------------

    def report(self, loss: float, grad_norm: float, learning_rate: float, *, step_seconds: float) -> StepReport:
        """What this step was like; keeps the sums for the next line."""
        memory = memory_bytes(self.device)
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        self.recent_losses.append(loss)
        rate = self.pace.add(step_seconds)
        return StepReport(
            step=self.step,
            tokens=self.tokens,
            seconds=self.seconds(),
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_second=rate,
            mfu=self.pace.mfu(rate),
            memory_bytes=memory,
        )

    def view(self) -> RunView:
        """What hooks may see now."""
        return RunView(model=self.model, run=self.run, step=self.step, tokens=self.tokens, seconds=self.seconds())

    def call_hooks(self, moment: str, *arguments: Any) -> None:
        """Call one moment of all hooks; random generators and the training mode are as before afterwards."""
        if not self.hooks:
            return
        with random_states_kept():
            call_all(self.hooks, moment, self.view(), *arguments)
        self.model.train()

    def result(self, reason: str) -> TrainResult:
        """How the run ended."""
        interrupted = self.stop.requested is not None
        losses = [loss for loss in self.validations.values() if not math.isnan(loss)]
        mean = sum(self.recent_losses) / len(self.recent_losses) if self.recent_losses else None
        self.say(
            f"{'stopped' if interrupted else 'done'} after step {self.step:,} ({reason}): "
            f"{format_seconds(self.seconds())}, memory at most {format_bytes(self.peak_memory_bytes)}"
        )
        return TrainResult(
            run=self.run.path,
            reason=reason,
            interrupted=interrupted,
            step=self.step,
            tokens=self.tokens,
            seconds=self.seconds(),
            loss=mean,
            best_validation_loss=min(losses, default=None),
            last_checkpoint=self.run.latest(),
            best_checkpoint=self.run.best(),
            memory_bytes=self.peak_memory_bytes,
        )
