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

from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.data.loader import Batch
from mamba_slm.model.count import train_flops_per_token
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter, read_metrics
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.auto_fit import gradients_that_fit
from mamba_slm.training.checkpoint import remove_unfinished
from mamba_slm.training.compiling import compile_sublayers
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.validation import validate_together
from mamba_slm.training.distributed.world import World, alone
from mamba_slm.training.engines.choose import choose_engine, make_engine
from mamba_slm.training.events import Events
from mamba_slm.training.health import HealthWatch
from mamba_slm.training.hooks import Hook, RunView, call_all
from mamba_slm.training.interrupt import StopRequest
from mamba_slm.training.layers.watch import LayerWatch
from mamba_slm.training.memory import memory_bytes
from mamba_slm.training.pace import Pace
from mamba_slm.training.peak import Peak
from mamba_slm.training.precision import Precision, choose_precision
from mamba_slm.training.random_state import random_states_kept
from mamba_slm.training.reports import StepReport, TrainResult, ValidationReport
from mamba_slm.training.resuming import restore, state_of
from mamba_slm.training.rounding import Rounding
from mamba_slm.training.saving import Saver, saves_completed
from mamba_slm.training.source_watch import SourceWatch, described
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
        sources: watched one by one at each validation; None watches none.
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
        sources: SourceWatch | None = None,
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
        self.sources = sources or SourceWatch()
        self.tokenizer = tokenizer
        self.clock = clock
        self.limits, self.schedule = config.limits(), config.run_schedule()

        self.device = self.world.device if self.world.size > 1 else str(next(model.parameters()).device)
        self.precision = Precision(choose_precision(config.precision, self.device).value, self.device)  # type: ignore[arg-type]
        model.gradient_checkpointing = config.gradient_checkpointing
        self.rounding = Rounding(config)
        self.rounding.install(model)
        if config.compile:
            compile_sublayers(model, self.device)
        engine = choose_engine(config.engine, self.world.size).value
        self.engine = make_engine(engine, model, config, self.precision, self.device, self.world)
        self.layers = LayerWatch(model, self.engine.shares, every_steps=config.layers_every_steps, world=self.world)
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
        self.saver = Saver(
            self.engine,
            run,
            config,
            before_save=lambda: self.ready_to_save(before_save),
            last_good_step=lambda: self.health.last_good_step,
            tokenizer_file=tokenizer_file,
            say=say,
            clock=lambda: self.clock(),
        )
        self.last_report: StepReport | None = None
        self.recent_losses: deque[float] = deque(maxlen=20)
        self.peak_memory_bytes = 0
        self.seconds_before = 0.0  # of earlier processes of this run
        self.started = self.clock()
        self.validations: dict[int, float] = {}  # loss by step; early stopping has no other state
        self.stopped: str | None = None
        """The signal that ended the run, on which all processes agree."""
        self.stop = StopRequest(announce=say if self.world.is_first else None, ends_process=self.world.size > 1)

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
        with self.stop, self.metrics_open(), saves_completed(self.saver):
            self.begin(resume)
            while (reason := self.agreed_reason_to_end()) is None:
                self.train_one_step()
            if self.last_report is not None and self.pace.steps:
                self.say(self.pace.line(self.last_report, progress=self.progress()))
            if self.saver.step != self.step:
                self.save()
            self.completed(self.saver.settle())
            if self.stopped is None:
                self.finish(reason)
        return self.result(self.stopped or reason)

    def train_one_step(self) -> None:
        """One optimiser step, and what is due after it."""
        start = self.clock()
        batch = next(self.loader)
        self.rounding.begin_step(self.step)
        learning_rate = self.world.agree(self.set_learning_rate)
        self.engine.set_learning_rate(learning_rate)
        with self.layers.looking(self.step + 1, tokens=self.tokens + self.config.batch_tokens):
            loss, grad_norm = gradients_that_fit(self.engine, batch, self.events, step=self.step)
            self.health.inspect(
                batch,
                loss,
                grad_norm,
                step=self.step + 1,
                saved_step=self.saver.step,
                may_overflow=self.precision.scales,
            )
            self.update_weights(grad_norm)
        self.step += 1
        self.tokens += self.config.batch_tokens

        report = self.report(loss, grad_norm, learning_rate, step_seconds=self.clock() - start)
        if self.world.is_first:
            self.metrics.append(report.row())
            if self.layers.report is not None:
                self.metrics.append(self.layers.report.row())
        if self.step % self.config.log_every_steps == 0 or self.pace.is_first_line:
            self.say(self.pace.line(report, progress=self.progress()))
        self.last_report = report
        if self.world.agree(lambda: self.saver.is_due(self.step)):
            self.save()
        if self.is_validation_due():
            self.measure()
        self.call_hooks("on_step_end", report)
        if self.layers.report is not None:
            self.call_hooks("on_layers", self.layers.report)

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
            restore(self)
        self.validations = dict(self.world.agree(self.tidied))
        self.model.train()
        self.started = self.saver.saved_at = self.clock()
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
        """`reason_to_end` of the first process; a signal to any process counts. Completes a save that is written."""
        asked = self.stop.requested is not None
        stops, *news = self.world.sum(float(asked), *self.saver.news())
        self.completed(self.saver.heed(*news))
        if stops and not asked:
            self.stop.request("a signal to another process")
        reason, self.stopped = self.world.agree(lambda: (self.reason_to_end(), self.stop.requested))
        return reason

    def reason_to_end(self) -> str | None:
        """Why the loop ends now, or None."""
        if self.stop.requested is not None:
            return self.stop.requested
        reached = self.limits.reached(tokens=self.tokens, steps=self.step, seconds=self.seconds())
        if reached is not None and self.step > 0:  # the time may be over before the first: what it leaves is a model
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
        """Begin a checkpoint, and delete those that are no longer kept when it is complete. Called by all processes."""
        self.completed(self.saver.begin(self.step, lambda: state_of(self)))

    def ready_to_save(self, before_save: Callable[[], None]) -> None:
        """What the first process does before it saves."""
        before_save()
        self.metrics.sync()

    def completed(self, folder: Path | None) -> None:
        """Tell the hooks of a checkpoint that is complete now, if there is one. Called by all processes."""
        if folder is not None:
            self.call_hooks("on_checkpoint", folder)

    def measure(self) -> None:
        """Validate, after saving; mark the best checkpoint. Called by all processes."""
        if self.saver.step != self.step:
            self.save()
        assert self.validation is not None
        measured = self.validated(self.validation())
        if measured is None:
            return
        self.completed(self.saver.settle())  # before it may be called the best
        loss, bits_per_byte = measured
        self.validations[self.step] = loss
        is_best = validations_since_best(list(self.validations.values())) == 0
        report = ValidationReport(
            step=self.step,
            tokens=self.tokens,
            loss=loss,
            bits_per_byte=bits_per_byte,
            is_best=is_best,
            sources=self.sources.reports(self.validated),
        )

        def keep() -> None:
            if is_best:
                self.run.mark_best(self.step)
            self.metrics.append(report.row())
            self.saver.prune()

        self.world.agree(keep)
        bits = f", {bits_per_byte:.3f} bits per byte" if bits_per_byte is not None else ""
        self.say(f"validation at step {self.step}: loss {loss:.3f}{bits}{' (best so far)' if is_best else ''}")
        if by_source := described(report.sources):
            self.say(by_source)
        self.call_hooks("on_validation", report)

    def validated(self, batches: Iterable[Batch]) -> tuple[float, float | None] | None:
        """Loss and bits per byte of held-out rows; None when a stop was asked for meanwhile."""
        with random_states_kept(), self.rounding.always():
            if self.world.size > 1:
                return validate_together(
                    self.engine,
                    batches,
                    bytes_per_token=self.bytes_per_token,
                    is_stopped=lambda: self.stop.requested is not None,
                )
            return validate(
                self.model,
                batches,
                rows_at_once=self.engine.config.rows_at_once,  # fewer than the settings say where memory ran out
                precision=self.precision,
                device=self.device,
                bytes_per_token=self.bytes_per_token,
                is_stopped=lambda: self.stop.requested is not None,
                say_smaller=self.ran_out_of_memory if self.config.auto_fit else None,
            )

    def ran_out_of_memory(self, what: str) -> None:
        """An event that says how the run goes on."""
        self.events.add(self.step, "out of memory", what)

    def is_validation_due(self) -> bool:
        """Whether this step is to be validated and has not been."""
        due = self.validation is not None and self.step % self.config.validate_every_steps == 0
        return due and self.step not in self.validations

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
        return self.rounding.install(model).train()

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
