"""One call that trains: run directory, lock, data, model, trainer, record. The command line and Python use the same.

from mamba_slm.training.config import TrainConfig
from mamba_slm.training.run import train

result = train(TrainConfig(model="nano", data=("book.txt",), max_minutes=5), run="runs/book")
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from mamba_slm.core.allocator import freed_memory_kept, give_back_freed_memory
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_count
from mamba_slm.data.loader import validation_batches
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.model.count import count_parameters
from mamba_slm.model.portability import portability_issues
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.kernels import installed_kernels
from mamba_slm.ops.ssd import automatic_ssd_backend
from mamba_slm.runs.layout import RunDirectory, is_run
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.record import RunRecord, write_record
from mamba_slm.runs.status import StatusWriter
from mamba_slm.training.auto_fit import memory_explained, with_settings_that_fit
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.data_arguments import parse_sources
from mamba_slm.training.distributed.place import find_place
from mamba_slm.training.distributed.setup import SETUP, described, joined, telling, understood
from mamba_slm.training.distributed.world import World
from mamba_slm.training.engines.choose import first_device
from mamba_slm.training.engines.decide import require_engine, with_engine
from mamba_slm.training.hooks import Hook, SampleHook, Sampler, SettingsHook, StatusHook
from mamba_slm.training.initial import first_model, tokenizer_for
from mamba_slm.training.kernels import kernels_in_use
from mamba_slm.training.mixing import loader_of, mixture_of, planned_samples, say_mixture
from mamba_slm.training.mixture_events import MixtureHook
from mamba_slm.training.opening import clear, logged, open_record, open_run, say_on_stderr, status_kept
from mamba_slm.training.peak import Peak, peak_of
from mamba_slm.training.plan import model_config_for, with_run_length
from mamba_slm.training.precision import Choice, choose_device, choose_precision
from mamba_slm.training.prepare import PreparedData, describe_sources, prepare_data
from mamba_slm.training.profiling.hook import profiled
from mamba_slm.training.publishing import publish_model
from mamba_slm.training.reports import TrainResult
from mamba_slm.training.rounding import say_rounding
from mamba_slm.training.run_config import read_model_config, write_run_config
from mamba_slm.training.run_estimate import estimate_run, larger_peak, with_estimate
from mamba_slm.training.source_watch import watch_sources
from mamba_slm.training.tracking.hook import require_trackers, tracked
from mamba_slm.training.trainer import Trainer

Resume = bool | Literal["auto"]
CONVERT = "convert"
"""The kind of runs whose loss is not the text's alone."""
Prepare = Callable[[RunDirectory], PreparedData]
MakeSampler = Callable[[PreparedData, TrainConfig], Sampler]
"""Builds `sample(model, step)` once the tokenizer is known."""
SetLength = Callable[[TrainConfig, PreparedData], TrainConfig]
Adapt = Callable[[LanguageModel, TrainConfig], LanguageModel]
"""From the model of a run and its final settings to the same weights with another loss."""


def train(
    config: TrainConfig,
    *,
    run: str | os.PathLike[str] | None = None,
    resume: Resume = False,
    prepare: Prepare | None = None,
    set_length: SetLength | None = None,
    adapt: Adapt | None = None,
    hooks: Sequence[Hook] = (),
    make_sampler: MakeSampler | None = None,
    show_sample: Callable[[int, dict[str, Any]], None] | None = None,
    kind: str = "train",
    command: Sequence[str] | None = None,
    lock: RunLock | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a model, or go on with a run.

    Args:
        config: all settings; of a resumed run those of `run_config.read_train_config`, perhaps with another limit.
        run: the run directory; None makes a new one, named after the model, in the home of all runs.
        resume: True continues the run at `run`, False begins a new one there, "auto" does what is possible. Continuing
            means from the newest intact checkpoint, or from the start when there is none yet.
        prepare: makes the data in the run directory; None prepares `config.data`.
        set_length: gives a run without a limit its limit when the data are ready; None means one pass over them.
        adapt: called once with the model, before its weights are restored; for one process alone.
        hooks: called in their order, after the built-in ones.
        make_sampler: gives the callable behind samples.jsonl; None takes no samples.
        show_sample: prints a sample.
        kind: "train" or "quickstart", for the record.
        command: the command line to record; None takes this process's.
        lock: a lock of `run` that the caller already holds; None takes and releases one.
        say: takes lines for people, stderr by default; all of them go to log.txt, too.

    Returns: how the run ended; `result.interrupted` says that a signal ended it and that everything is saved.

    Raises:
        UsageError: `run` and `resume` disagree about whether there is a run.
        RunLockedError: another process owns the run.
        TrainingDivergedError, CheckpointError, DataError, ConfigError, DiskFullError: see `Trainer`, `prepare_data`.
    """
    require_usable(config, has_data=prepare is not None)
    with joined(config) as world:
        if not world.is_first:
            return follow(world)
        return lead(
            world,
            config,
            run=run,
            resume=resume,
            prepare=prepare,
            set_length=set_length,
            adapt=adapt,
            hooks=hooks,
            make_sampler=make_sampler,
            show_sample=show_sample,
            kind=kind,
            command=command,
            lock=lock,
            say=say,
        )


def lead(
    world: World,
    config: TrainConfig,
    *,
    run: str | os.PathLike[str] | None,
    resume: Resume,
    prepare: Prepare | None,
    set_length: SetLength | None,
    adapt: Adapt | None,
    hooks: Sequence[Hook],
    make_sampler: MakeSampler | None,
    show_sample: Callable[[int, dict[str, Any]], None] | None,
    kind: str,
    command: Sequence[str] | None,
    lock: RunLock | None,
    say: Callable[[str], None] | None,
) -> TrainResult:
    """`train` in the first process, or in the only one."""
    words = tuple(command) if command is not None else ("mamba-slm", *sys.argv[1:])
    is_resumed = resume is True or (resume == "auto" and run is not None and is_run(run))
    with contextlib.ExitStack() as stack:
        tell = stack.enter_context(telling(world))
        require_trackers(config)
        directory = open_run(run, config.model, is_resumed=is_resumed)
        say = logged(directory, say or say_on_stderr)
        if lock is None:
            lock = stack.enter_context(RunLock(directory, command=" ".join(words[:3]), say=say))
        if not is_resumed:
            clear(directory)
        status = stack.enter_context(status_kept(directory))
        config = resolved(config, say)
        kernels = stack.enter_context(kernels_in_use(config.kernels, config.device, say))
        say(kernels)
        say_which_scan(config, say)
        if config.benchmarks and not hooks:
            say("benchmarks are not asked: give the hook of evaluation.during_training.benchmark_hooks")
        model_config = read_model_config(directory)
        if not is_resumed:  # what a resumed run is told holds from the moment in which it goes on, see SettingsHook
            write_run_config(directory, config, model_config)
        record = open_record(directory, kind, words)
        require_adapted(record, adapt, world)

        prepared = prepare(directory) if prepare else prepare_config_data(config, directory, say)
        say(describe_sources(prepared))
        if config.device == "cpu":  # not before: what reading text and making a tokenizer took would be kept, too
            give_back_freed_memory()
            say(str(stack.enter_context(freed_memory_kept())))
        mixture = mixture_of(prepared, config)
        loader = stack.enter_context(contextlib.closing(loader_of(mixture, config, world, say)))
        if set_length is not None and not config.has_limit:
            config = set_length(config, prepared)
        config, reason = with_run_length(config, corpus_tokens=prepared.num_tokens)
        if reason:
            say(reason)
        say_mixture(mixture, planned_samples(config), say)
        if model_config is None:
            model_config = model_config_for(config, vocab_size=prepared.tokenizer.vocab_size)
        config = with_settings_that_fit(config, model_config, world, say)
        stack.enter_context(memory_explained(config, model_config, world))
        if not is_resumed:
            write_run_config(directory, config, model_config)
        say(f"model: {config.initial or config.model}, {model_config.pattern}, {count_parameters(model_config)}")
        say_rounding(config, model_config, say)
        for issue in portability_issues(model_config):
            if issue.effect == "lost":
                say(f"not portable: {issue}")

        peak = larger_peak(peak_of(config.device, config.precision), record, config.precision)
        config = with_engine(config, model_config, world, directory, say)
        estimate = estimate_run(config, model_config, peak, processes=world.size)
        if record.estimate is None:
            say(str(estimate))
        record = with_estimate(record, estimate, peak, config.precision, kernels)
        write_record(directory.record_file, record)

        tell(described(directory, config, model_config, prepared, is_resumed=is_resumed))
        model = first_model(config, model_config, device=first_device(config, world), is_resumed=is_resumed)
        model = model if adapt is None else adapt(model, config)
        watching: list[Hook] = [SettingsHook(config, model_config)] if is_resumed else []
        watching += [MixtureHook(mixture, say), *stack.enter_context(tracked(config, directory, say))]
        watching += stack.enter_context(profiled(config, model, directory, say))
        trainer = Trainer(
            model,
            loader,
            config,
            directory,
            validation=validation_of(prepared, config),
            sources=watch_sources(prepared, mixture, loader, config),
            hooks=[*built_in_hooks(config, prepared, status, make_sampler, show_sample), *watching, *hooks],
            tokenizer=prepared.tokenizer,
            tokenizer_file=prepared.tokenizer_file,
            peak=peak_of_all(peak, world),
            say=say,
            before_save=lock.assert_owned,
            world=world,
        )
        result = trainer.train(resume=is_resumed)
        if planned_samples(config) is None:
            say_mixture(mixture, loader.sample, say)
        outcome = {**result.row(), "parameters": count_parameters(model_config).total}
        write_record(directory.record_file, dataclasses.replace(record, result=outcome))
        if result.interrupted:
            status.update("stopped", step=result.step, message=result.reason)
            return result
        finished = result.best_checkpoint or result.last_checkpoint
        if finished is not None:
            publish_model(finished, directory.path / "model")
            say(f"finished model: {directory.path / 'model'} (weights of {finished.name})")
        status.update("done", step=result.step, message=result.reason)
        return result


def follow(world: World) -> TrainResult:
    """`train` in another process than the first: it builds what it is told to, computes, and says nothing."""
    run, config, model_config, prepared, is_resumed = understood(world.hear(SETUP))
    with contextlib.ExitStack() as stack:
        mixture = mixture_of(prepared, config)
        loader = loader_of(mixture, config, world, say_nothing)
        stack.enter_context(contextlib.closing(loader))
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        if config.device == "cpu":
            stack.enter_context(freed_memory_kept())
        stack.enter_context(kernels_in_use(config.kernels, config.device, say_nothing))
        stack.enter_context(memory_explained(config, model_config, world))
        trainer = Trainer(
            first_model(config, model_config, device=first_device(config, world), is_resumed=is_resumed),
            loader,
            config,
            run,
            validation=validation_of(prepared, config),
            sources=watch_sources(prepared, mixture, loader, config),
            tokenizer=prepared.tokenizer,
            tokenizer_file=prepared.tokenizer_file,
            say=say_nothing,
            world=world,
        )
        return trainer.train(resume=is_resumed)


def peak_of_all(peak: Peak | None, world: World) -> Peak | None:
    """What MFU refers to: the peak of this process's device, once for each process."""
    return peak and dataclasses.replace(peak, flops_per_second=peak.flops_per_second * world.size)


def say_nothing(text: str) -> None:
    """The first process speaks for all."""


def require_adapted(record: RunRecord, adapt: Adapt | None, world: World) -> None:
    """Raise UsageError where a run would train with another loss than it is meant to."""
    if record.kind == CONVERT and adapt is None:
        raise UsageError(
            f"{record.id} learns from a teacher, and train knows of none",
            hint="go on with: mamba-slm convert --resume RUN",
        )
    if adapt is not None and world.size > 1:
        raise UsageError("a model learns from a teacher in one process", hint="start it without torchrun")


def require_usable(config: TrainConfig, *, has_data: bool, processes: int | None = None) -> None:
    """Raise before anything is written when settings cannot work: wrong preset, missing data, too long a row, …"""
    require_engine(config, model_config_for(config), processes=processes or find_place().size)
    if not has_data:
        parse_sources(config.data)
    if config.has_limit:
        config.run_schedule()


def resolved(config: TrainConfig, say: Callable[[str], None]) -> TrainConfig:
    """Replace "auto" by what was chosen, and say why; set the number of CPU threads."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device.value)
    say(f"device {device}; precision {precision}; {torch.get_num_threads()} threads; seed {config.seed}")
    return with_choices(config, device, precision)


def say_which_scan(config: TrainConfig, say: Callable[[str], None]) -> None:
    """Say which backend the scan has with the kernels in use now, and why."""
    device_type = torch.device(config.device).type
    backend, reason = automatic_ssd_backend(device_type, compiled=config.compile)
    if device_type == "cpu" and ("ssd_scan", device_type) in installed_kernels() and not config.compile:
        backend, reason = "native", f"its kernel passed its test; {backend} for sizes that it refuses"
    say(f"scan {backend} (automatic: {reason})")


def with_choices(config: TrainConfig, device: Choice, precision: Choice) -> TrainConfig:
    """The settings with device and precision as chosen."""
    return dataclasses.replace(config, device=device.value, precision=precision.value)  # type: ignore[arg-type]


def prepare_config_data(config: TrainConfig, run: RunDirectory, say: Callable[[str], None]) -> PreparedData:
    """`prepare_data` with the arguments that the settings hold."""
    return prepare_data(
        config.data,
        run,
        vocab_size=model_config_for(config).vocab_size,
        tokenizer=tokenizer_for(config),
        validation=config.validation,
        validation_share=config.validation_share,
        reading=read_options(config),
        say=say,
    )


def read_options(config: TrainConfig) -> ReadOptions:
    """How the settings want text to be read."""
    return ReadOptions(
        pattern=config.data_pattern, text_key=config.text_key, encoding=config.encoding, on_error=config.on_error
    )


def validation_of(prepared: PreparedData, config: TrainConfig) -> Callable[[], Iterator[Any]] | None:
    """What the trainer validates on: the same batches at every call."""
    if prepared.validation is None:
        return None
    return functools.partial(
        validation_batches,
        prepared.validation,
        context_tokens=config.context_tokens,
        batch_rows=config.rows_at_once,
        max_tokens=config.validation_tokens,
    )


def built_in_hooks(
    config: TrainConfig,
    prepared: PreparedData,
    status: StatusWriter,
    make_sampler: MakeSampler | None,
    show_sample: Callable[[int, dict[str, Any]], None] | None,
) -> list[Hook]:
    """Status and samples, as the settings say."""
    hooks: list[Hook] = [StatusHook(status)]
    if make_sampler is not None and config.sample_every_steps:
        sampler = make_sampler(prepared, config)
        hooks.append(SampleHook(sampler, every_steps=config.sample_every_steps, show=show_sample))
    return hooks


def summary(result: TrainResult) -> str:
    """What a run came to, in one line."""
    loss = "" if result.loss is None else f", loss {result.loss:.3f}"
    best = "" if result.best_validation_loss is None else f", best validation loss {result.best_validation_loss:.3f}"
    return f"{result.run}: {format_count(result.tokens)} tokens in {result.step:,} steps{loss}{best}"
