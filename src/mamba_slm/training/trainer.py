"""The loop: batch → loss → gradients → update → save → measure, until a limit, an early stop or a signal.

Order at the end of a step: metrics row, checkpoint, validation, hooks. Saving comes before measuring, so that a failure
while measuring costs nothing; what a kill left unmeasured is measured when the run is resumed.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.data.loader import Batch
from mamba_slm.model.count import train_flops_per_token
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter, read_metrics
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.checkpoint import (
    newest_valid_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
)
from mamba_slm.training.compiling import compile_sublayers
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.validation import validate_together
from mamba_slm.training.distributed.world import World, alone
from mamba_slm.training.engines.choose import choose_engine, make_engine
from mamba_slm.training.events import Events
from mamba_slm.training.health import HealthWatch
from mamba_slm.training.hooks import Hook, RunView, call_all
from mamba_slm.training.interrupt import StopRequest
from mamba_slm.training.memory import memory_bytes
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
    """Trains one model, on one device or together with the same trainer in other processes.

    Of several processes the first decides, speaks, writes and calls the hooks; all of them compute, and every method
    that says so below is called by all of them at the same time.

    Args:
        model: float32, on its device; see `engines.choose.first_device`.
        loader: each batch is one optimiser step of `config.rows_per_step` rows, or this process's share of them; moving
            on the state is its own.
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
        world: the processes that train together; None means this one alone.
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
        world: World | None = None,
    ):
        self.world = world or alone()
        self.model, self.loader, self.config, self.run = model, loader, config, run
        self.validation, self.hooks, self.say = validation, hooks, say
        self.tokenizer, self.tokenizer_file = tokenizer, tokenizer_file
        self.before_save, self.clock = before_save, clock
        self.limits, self.schedule = config.limits(), config.run_schedule()

        self.device = self.world.device if self.world.size > 1 else str(next(model.parameters()).device)
        self.precision = Precision(choose_precision(config.precision, self.device).value, self.device)  # type: ignore[arg-type]
        model.gradient_checkpointing = config.gradient_checkpointing
        if config.compile:
            compile_sublayers(model, self.device)
        engine = choose_engine(config.engine, self.world.size).value
        self.engine = make_engine(engine, model, config, self.precision, self.device, self.world)
        self.pace = Pace(
            batch_tokens=config.batch_tokens,
            flops_per_token=train_flops_per_token(model.config, config.context_tokens),
            peak=peak,
            limits=self.limits,
        )
        self.bytes_per_token = token_lengths(tokenizer) if tokenizer and validation else None

        self.step = 0
        self.tokens = 0
        self.events = Events(run, say, writes=self.world.is_first)
        self.health = HealthWatch(
            config,
            run,
            loss_of=self.engine.forward,
            device=self.device,
            events=self.events,
            tokenizer=tokenizer,
            gather=self.world.gather,
        )
        self.saved_step: int | None = None
        self.last_report: StepReport | None = None
        self.recent_losses: deque[float] = deque(maxlen=20)
        self.peak_memory_bytes = 0
        self.seconds_before = 0.0  # of earlier processes of this run
        self.started = self.saved_at = self.clock()
        self.validations: dict[int, float] = {}  # loss by step; early stopping has no other state
        self.stopped: str | None = None
        """The signal that ended the run, on which all processes agree."""
        self.stop = StopRequest(announce=say if self.world.is_first else None)

    # the loop ---------------------------------------------------------------------------------------------------------

    def train(self, *, resume: bool = False) -> TrainResult:
        """Run to the end. With `resume`, continue from the newest intact checkpoint, or from the start without one.

        The first SIGINT or SIGTERM ends the run after the current step, with everything saved; the result says
        `interrupted`.

        Raises:
            TrainingDivergedError: a loss or gradient is not finite, or the loss stayed high; names step and documents.
            CheckpointError: every checkpoint is damaged, or they belong to another model.
            DiskFullError: no room for a checkpoint; the earlier ones are intact.
            RankLostError: another process of this job died or hangs.
        """
        with self.stop, self.metrics_open():
            self.begin(resume)
            while (reason := self.agreed_reason_to_end()) is None:
                self.train_one_step()
            if self.last_report is not None and self.pace.steps:
                self.say(self.pace.line(self.last_report, progress=self.progress()))
            if self.saved_step != self.step:
                self.save()
            if self.stopped is None:
                self.finish(reason)
        return self.result(self.stopped or reason)

    def train_one_step(self) -> None:
        """One optimiser step, and what is due after it."""
        start = self.clock()
        batch = next(self.loader)
        learning_rate = self.world.agree(self.set_learning_rate)
        self.engine.set_learning_rate(learning_rate)
        loss, grad_norm = self.engine.compute_gradients(batch)
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
        if self.world.is_first:
            self.metrics.append(report.row())
        if self.step % self.config.log_every_steps == 0 or self.pace.is_first_line:
            self.say(self.pace.line(report, progress=self.progress()))
        self.last_report = report
        if self.world.agree(self.is_save_due):
            self.save()
        if self.is_validation_due():
            self.measure()
        self.call_hooks("on_step_end", report)

    @contextlib.contextmanager
    def metrics_open(self) -> Iterator[None]:
        """Keep the metrics file open in the process that writes it."""
        with contextlib.ExitStack() as stack:
            if self.world.is_first:
                self.metrics = stack.enter_context(MetricsWriter(self.run.metrics_file))
            yield

    def begin(self, resume: bool) -> None:
        """Start at step 0 or at a checkpoint, and make up for what a kill left undone. Called by all processes."""
        if resume:
            self.restore()
        self.validations = dict(self.world.agree(self.tidied))
        self.model.train()
        self.started = self.saved_at = self.clock()
        self.pace.begin(progress=self.progress(), seconds=self.seconds())
        self.call_hooks("on_start")
        if self.step > 0 and self.is_validation_due():
            self.measure()

    def tidied(self) -> list[tuple[int, float]]:
        """Remove what an earlier process wrote after the checkpoint; step and loss of the validations that stay."""
        remove_unfinished(self.run.checkpoints_folder)
        self.metrics.truncate_after(self.step)
        with MetricsWriter(self.run.events_file) as events:
            events.truncate_after(self.step)
        rows = read_metrics(self.run.metrics_file, kind="validation")
        return [(row["step"], math.nan if row["loss"] is None else row["loss"]) for row in rows]

    def agreed_reason_to_end(self) -> str | None:
        """`reason_to_end` of the first process; a signal to any process counts."""
        asked = self.stop.requested is not None
        if self.world.any(asked) and not asked:
            self.stop.request("a signal to another process")
        reason, self.stopped = self.world.agree(lambda: (self.reason_to_end(), self.stop.requested))
        return reason

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
        self.stopped = self.world.agree(lambda: self.stop.requested)
        if self.stopped is None:
            self.call_hooks("on_end", reason)

    # one step ---------------------------------------------------------------------------------------------------------

    def set_learning_rate(self) -> float:
        """The rate of the step about to be taken: that of the progress at its end, so that the first is not 0."""
        progress = self.limits.progress(
            tokens=self.tokens + self.config.batch_tokens, steps=self.step + 1, seconds=self.seconds()
        )
        return self.schedule.learning_rate_at(progress)

    def update_weights(self, grad_norm: float) -> None:
        """Take the optimiser step; under fp16 an overflow skips it and halves the loss scale."""
        if not math.isfinite(grad_norm):
            self.events.add(
                self.step, "overflow", f"step {self.step + 1}: fp16 overflow, step skipped", scale=self.precision.scale
            )
        self.engine.update_weights()

    # saving and measuring ---------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint and delete those that are no longer kept. Called by all processes."""
        self.world.agree(self.before_save)
        folder = self.run.checkpoint_folder(self.step)
        weights, moments = self.engine.weights(), self.engine.moments()

        def write() -> None:
            self.metrics.sync()
            write_checkpoint(
                folder,
                config=self.model.config,
                weights=weights,
                moments=moments,
                state=self.state_dict(),
                tokenizer_file=self.tokenizer_file,
            )

        self.world.agree(write)
        self.saved_step, self.saved_at = self.step, self.clock()
        self.world.agree(self.prune)
        self.call_hooks("on_checkpoint", folder)

    def prune(self) -> None:
        """Keep the newest checkpoints, the best, and the last good one before a spike."""
        step = self.health.last_good_step
        good = None if step is None else self.run.checkpoint_folder(step)
        prune_checkpoints(self.run.checkpoints(), keep_last=self.config.keep_last, keep=(self.run.best(), good))

    def measure(self) -> None:
        """Validate, after saving; mark the best checkpoint. Called by all processes."""
        if self.saved_step != self.step:
            self.save()
        measured = self.validated()
        if measured is None:
            return
        loss, bits_per_byte = measured
        self.validations[self.step] = loss
        is_best = validations_since_best(list(self.validations.values())) == 0
        report = ValidationReport(
            step=self.step, tokens=self.tokens, loss=loss, bits_per_byte=bits_per_byte, is_best=is_best
        )

        def keep() -> None:
            if is_best:
                self.run.mark_best(self.step)
            self.metrics.append(report.row())
            self.prune()

        self.world.agree(keep)
        bits = f", {bits_per_byte:.3f} bits per byte" if bits_per_byte is not None else ""
        self.say(f"validation at step {self.step}: loss {loss:.3f}{bits}{' (best so far)' if is_best else ''}")
        self.call_hooks("on_validation", report)

    def validated(self) -> tuple[float, float | None] | None:
        """Loss and bits per byte of the held-out rows; None when a stop was asked for meanwhile."""
        assert self.validation is not None
        with random_states_kept():
            if self.world.size > 1:
                return validate_together(
                    self.engine,
                    self.validation(),
                    bytes_per_token=self.bytes_per_token,
                    is_stopped=lambda: self.stop.requested is not None,
                )
            return validate(
                self.model,
                self.validation(),
                rows_at_once=self.config.rows_at_once,
                precision=self.precision,
                device=self.device,
                bytes_per_token=self.bytes_per_token,
                is_stopped=lambda: self.stop.requested is not None,
            )

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
            "engine": self.engine.name,
            "processes": self.world.size,
        }

    def restore(self) -> None:
        """Continue from the newest intact checkpoint; say what was passed over."""

        def damaged(folder: Path, why: str) -> None:
            self.events.add(
                self.step, "damaged checkpoint", f"{why}; using the checkpoint before it", checkpoint=folder.name
            )

        def newest() -> str | None:
            found = newest_valid_checkpoint(self.run.checkpoints(), on_damaged=damaged)
            return None if found is None else found.name

        name = self.world.agree(newest)
        if name is None:
            self.say("there is no checkpoint yet: starting at step 0")
            return
        folder = self.run.checkpoints_folder / name
        state = read_checkpoint(folder, self.engine.load)
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
                f"{name} {before} before, {now} now"
                for name, before, now in (
                    ("threads", state["threads"], torch.get_num_threads()),
                    ("torch", state["torch"], torch.__version__),
                    ("processes", state.get("processes", 1), self.world.size),
                    ("engine", state.get("engine", "plain"), self.engine.name),
                )
                if before != now
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

    def view(self, model: Any) -> RunView:
        """What hooks may see now."""
        return RunView(model=model, run=self.run, step=self.step, tokens=self.tokens, seconds=self.seconds())

    def whole_model(self, moment: str) -> LanguageModel | None:
        """A copy of the model for hooks of the first process that read it now. Called by all processes."""
        if not self.world.agree(lambda: any(hook.reads_model(moment, self.step) for hook in self.hooks)):
            return None
        weights = self.engine.weights()
        if not self.world.is_first:
            return None
        model = build_model(self.model.config, device="meta")
        model.load_state_dict({name: weight.to(self.device) for name, weight in weights.items()}, assign=True)
        return model.train()

    def call_hooks(self, moment: str, *arguments: Any) -> None:
        """Call one moment of all hooks; random generators and the training mode are as before afterwards.

        Called by all processes; the hooks are those of the first.
        """

        if self.world.size == 1 and not self.hooks:
            return
        model = self.model if self.engine.holds_all else self.whole_model(moment)

        def call() -> None:
            with random_states_kept():
                call_all(self.hooks, moment, self.view(model), *arguments)

        self.world.agree(call)
        self.model.train()

    def result(self, reason: str) -> TrainResult:
        """How the run ended."""
        interrupted = self.stopped is not None
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
