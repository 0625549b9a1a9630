"""Open a run directory around any transformers Trainer: lock, record, log, status, trackers, signals, resume.

    with opened_run("align", "dpo", config, run=run, resume=resume, say=say) as opened:
        trainer = DPOTrainer(model, args=DPOConfig(**opened.arguments(), …), …)
        result = opened.train(trainer)
        if not result.interrupted:
            …                                   # save what came out into opened.directory
            opened.finish(result, parameters=…)

Imports transformers only where a Trainer is at hand anyway.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from mamba_slm.core.allocator import freed_memory_kept, give_back_freed_memory
from mamba_slm.core.config import to_dict
from mamba_slm.core.files import disk_full_is_explained, write_json_atomic, write_text_atomic
from mamba_slm.core.optional import require
from mamba_slm.finetuning.checkpoints import writing_folder
from mamba_slm.finetuning.watch_config import WatchConfig
from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.record import RunRecord, write_record
from mamba_slm.runs.status import StatusWriter
from mamba_slm.training.adamw8bit import quiet
from mamba_slm.training.checkpoint import newest_valid_checkpoint, remove_unfinished
from mamba_slm.training.events import Events
from mamba_slm.training.hooks import Hook, StatusHook
from mamba_slm.training.interrupt import StopRequest
from mamba_slm.training.kernels import kernels_in_use
from mamba_slm.training.opening import clear, logged, open_record, open_run, say_on_stderr, status_kept
from mamba_slm.training.peak import Peak
from mamba_slm.training.precision import choose_device, choose_precision
from mamba_slm.training.reports import TrainResult
from mamba_slm.training.tracking.hook import tracked

if TYPE_CHECKING:
    from transformers import Trainer

    from mamba_slm.finetuning.recorder import RunRecorder

FORMAT_VERSION = 1
EXTRA = "finetune"
LIBRARIES = ("transformers", "accelerate", "transformers.trainer", "peft")
TALKATIVE = ("torchao", "torch.utils._pytree", "bitsandbytes.backends.cpu.ops", "bitsandbytes.cextension")
"""Loggers of what they import: which of their kernels this machine has no use for."""


@dataclass
class OpenedRun:
    """A run directory that this process owns, and what is known about the run so far."""

    directory: RunDirectory
    kind: str
    config: WatchConfig
    """With `device` and `precision` as chosen."""
    say: Callable[[str], None]
    """Takes lines for people; they go to log.txt, too."""
    is_resumed: bool
    checkpoint: Path | None
    """The newest intact one of a resumed run: its checksums were compared."""
    status: StatusWriter
    record: RunRecord
    recorder: RunRecorder

    def arguments(self, **further: Any) -> dict[str, Any]:
        """Arguments for a `TrainingArguments` of any kind; `further` ones win.

        The Trainer's own saving, evaluating and stopping is off, because the recorder decides about them. `max_steps`
        is among them where the settings name it; epochs, batches and learning rate are the caller's.
        """
        on_cpu = torch.device(self.config.device).type == "cpu"
        found: dict[str, Any] = {
            "output_dir": str(writing_folder(self.directory)),
            "logging_strategy": "steps",
            "logging_steps": 1,
            "logging_first_step": True,
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
            "eval_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": on_cpu,
            "dataloader_pin_memory": not on_cpu,
            "bf16": self.config.precision == "bf16",
            "seed": self.config.seed,
            "include_num_input_tokens_seen": "all",
        }
        if self.config.max_steps is not None:
            found["max_steps"] = self.config.max_steps
        return found | further

    def describe(
        self,
        *,
        model: ModelConfig | None = None,
        estimate: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        peak: Peak | None = None,
        flops_per_token: float | None = None,
    ) -> None:
        """Write down what the run is about, as soon as it is known: config.yaml, run.json, data.json.

        Args:
            model: sizes of the model that is trained.
            estimate: `Estimate.to_dict()`; a resumed run keeps the one it began with.
            data: what data.json says, see `training.prepare.PreparedData.record`.
            peak: of the device, which MFU refers to.
            flops_per_token: of forward and backward.
        """
        write_config(self.directory, self.kind, self.config, model)
        if data is not None:
            write_json_atomic(self.directory.data_file, {"format_version": 1, **data})
        hardware = {**self.record.hardware, "threads": torch.get_num_threads()}
        if peak is not None:
            hardware["peak"] = {**dataclasses.asdict(peak), "precision": self.config.precision}
        plan = self.record.estimate or (None if estimate is None else dict(estimate))
        self.record = dataclasses.replace(self.record, estimate=plan, hardware=hardware, result=None)
        write_record(self.directory.record_file, self.record)
        self.recorder.pace.peak, self.recorder.pace.flops_per_token = peak, flops_per_token

    def train(
        self, trainer: Trainer, *, hooks: Sequence[Hook] = (), view: Callable[[Any], Any] = lambda model: model
    ) -> TrainResult:
        """Train to the end, or to a signal, with everything recorded; a resumed run goes on where it was.

        A validation takes place where the trainer has an `eval_dataset`, and before the first step as well.

        Args:
            hooks: called after those that `opened_run` was given.
            view: from the trainer's model to the one that hooks look at, such as `shared_model.language_model_of`.

        Raises:
            TrainingDivergedError: loss or gradients are not finite.
            DiskFullError: no room for a checkpoint; the earlier ones are intact.
            KeyboardInterrupt: a second Ctrl-C.
        """
        from transformers.trainer_callback import PrinterCallback, ProgressCallback

        from mamba_slm.finetuning.recorder import RunIsOver

        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        recorder = self.recorder
        recorder.hooks += hooks
        recorder.view_of = view
        recorder.checkpoint = self.checkpoint
        recorder.has_validation = trainer.eval_dataset is not None
        trainer.args.eval_on_start = recorder.has_validation and self.checkpoint is None
        trainer.add_callback(recorder)
        if self.is_resumed and self.checkpoint is None:
            self.say("there is no checkpoint yet: starting at step 0")
        start = None if self.checkpoint is None else str(self.checkpoint)
        with recorder.stop, disk_full_is_explained(self.directory.checkpoints_folder):
            try:
                with contextlib.suppress(RunIsOver):
                    trainer.train(resume_from_checkpoint=start)
            finally:
                recorder.close()
        result = recorder.result()
        self.keep_result(result)
        if result.interrupted:
            self.status.update("stopped", step=result.step, message=result.reason)
        return result

    def keep_result(self, result: TrainResult, **facts: Any) -> None:
        """Write what came out into run.json."""
        outcome = {**(self.record.result or {}), **result.row(), **facts}
        self.record = dataclasses.replace(self.record, result=outcome)
        write_record(self.directory.record_file, self.record)

    def finish(self, result: TrainResult, **facts: Any) -> None:
        """The run is done, and what it made is saved; `facts` go into the result in run.json, such as `parameters`."""
        self.keep_result(result, **facts)
        self.status.update("done", step=result.step, message=result.reason)


@contextlib.contextmanager
def opened_run(
    kind: str,
    name: str,
    config: WatchConfig,
    *,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    hooks: Sequence[Hook] = (),
    command: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[OpenedRun]:
    """Own a run directory until the end of the block, whatever ends it; status.json tells.

    Device and precision are resolved and said, kernels started, trackers opened with the first step.

    Args:
        kind: the command, such as "finetune": `kind` of run.json and the name of the settings in config.yaml.
        name: of a new run in the home of runs, after the date.
        config: all settings; derive yours from `WatchConfig`.
        run: the run directory; None makes a new one.
        resume: go on with the run at `run` from its newest intact checkpoint.
        hooks: called after the built-in ones.
        command: the command line to record; None takes this process's.
        say: takes lines for people; stderr by default.

    Raises:
        MissingDependencyError: transformers and its companions are not installed.
        UsageError: `run` and `resume` disagree about whether there is a run.
        RunLockedError: another process owns the run.
        CheckpointError: every checkpoint is damaged.
    """
    with contextlib.ExitStack() as stack:
        for talkative in TALKATIVE:
            stack.enter_context(quiet(talkative))
        for module in LIBRARIES:
            require(module, extra=EXTRA, purpose=f"mamba-slm {kind}")
    from mamba_slm.finetuning.recorder import RunRecorder

    words = tuple(command) if command is not None else ("mamba-slm", *sys.argv[1:])
    directory = open_run(run, name, is_resumed=resume)
    say = logged(directory, say or say_on_stderr)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(RunLock(directory, command=" ".join(words[:3]), say=say))
        if not resume:
            clear(directory)
        status = stack.enter_context(status_kept(directory))
        config = resolved(config, say)
        say(stack.enter_context(kernels_in_use(config.kernels, config.device, say)))
        if torch.device(config.device).type == "cpu":
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # accelerate imports DeepSpeed, which warns of no GPU
            give_back_freed_memory()
            stack.enter_context(freed_memory_kept())
        record = open_record(directory, kind, words)
        remove_unfinished(directory.checkpoints_folder)
        recorder = RunRecorder(
            directory,
            config,
            device=config.device,
            stop=StopRequest(announce=say),
            hooks=[StatusHook(status), *stack.enter_context(tracked(config, directory, say)), *hooks],
            say=say,
            before_save=lock.assert_owned,
            tokenizer_file=directory.tokenizer_file,
        )
        if not resume:
            write_config(directory, kind, config, None)
        yield OpenedRun(
            directory=directory,
            kind=kind,
            config=config,
            say=say,
            is_resumed=resume,
            checkpoint=newest_checkpoint(directory, say) if resume else None,
            status=status,
            record=record,
            recorder=recorder,
        )


def resolved(config: WatchConfig, say: Callable[[str], None]) -> Any:
    """The settings with device and precision as chosen, which is said with the reasons; CPU threads are set."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device.value)
    say(f"device {device}; precision {precision}; {torch.get_num_threads()} threads; seed {config.seed}")
    return dataclasses.replace(config, device=device.value, precision=precision.value)  # type: ignore[arg-type]


def newest_checkpoint(run: RunDirectory, say: Callable[[str], None]) -> Path | None:
    """The newest intact checkpoint, None when there is none at all; damaged ones that are passed over are said.

    Raises:
        CheckpointError: every checkpoint is damaged.
    """
    events = Events(run, say)

    def on_damaged(folder: Path, why: str) -> None:
        events.add(0, "damaged checkpoint", f"{why}; using the checkpoint before it", checkpoint=folder.name)

    return newest_valid_checkpoint(run.checkpoints(), on_damaged=on_damaged)


def write_config(run: RunDirectory, kind: str, config: WatchConfig, model: ModelConfig | None) -> None:
    """Write config.yaml: the settings under the name of the command, and the model where it is known."""
    content: dict[str, Any] = {"format_version": FORMAT_VERSION}
    if model is not None:
        content["model"] = to_dict(model)
    content[kind] = to_dict(config)
    write_text_atomic(run.config_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
