"""One call that fine-tunes: run directory, data, model, Trainer, adapter. The command line and Python use the same.

from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.run import finetune

result = finetune(FinetuneConfig(model="runs/book", data=("faq.jsonl",), rank=8), run="runs/faq")
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.finetuning.collate import packed_collator, padded_collator
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.held_out import at_most, loss_changes
from mamba_slm.finetuning.memory_estimate import estimate_finetune_memory
from mamba_slm.finetuning.opened_model import OpenedModel, open_model
from mamba_slm.finetuning.outcome import FinetuneResult, go_back_to, kept_losses, write_outcome
from mamba_slm.finetuning.planned import memory_text, planned, shape_of
from mamba_slm.finetuning.prepared import PreparedExamples, prepare_examples, rows_of, tokens_of
from mamba_slm.finetuning.recording import OpenedRun, opened_run
from mamba_slm.finetuning.samples import make_sampler
from mamba_slm.finetuning.shared_model import language_model_of
from mamba_slm.finetuning.start import start_folder
from mamba_slm.finetuning.step_plan import StepPlan, plan_steps
from mamba_slm.model.adapter_choice import resolve_adapted
from mamba_slm.model.checkpoint import load_config
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, train_flops_per_token
from mamba_slm.runs.before_after import Change, score_change, write_changes
from mamba_slm.runs.layout import RunDirectory, step_of
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.hooks import Hook, SampleHook
from mamba_slm.training.peak import peak_of

KIND = "finetune"


def finetune(
    config: FinetuneConfig,
    *,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    hooks: Sequence[Hook] = (),
    show_sample: Callable[[int, dict[str, Any]], None] | None = None,
    show_mask: Callable[[PreparedExamples], None] | None = None,
    command: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> FinetuneResult:
    """Fine-tune a model, or go on with a run.

    Args:
        config: all settings; of a resumed run those of its config.yaml.
        run: the run directory; None makes a new one in the home of runs.
        resume: continue the run at `run` from its newest intact checkpoint.
        hooks: called in their order, after the built-in ones.
        show_sample: prints a sample.
        show_mask: prints an example with what is learned in it, before the first step.
        command: the command line to record; None takes this process's.
        say: takes lines for people, stderr by default; all of them go to log.txt, too.

    Returns: how the run ended, and where the adapter or model is.

    Raises:
        CheckFailedError: gradients do not reach every trained tensor on the first two steps.
        UsageError, ConfigError, DataError: see `open_model`, `prepare_examples` and `opened_run`.
        TrainingDivergedError: loss or gradients are not finite.
    """
    if not config.model:
        raise ConfigError("which model is to be fine-tuned?", hint="give a model folder or a run")
    adapted = resolve_adapted(config.model)  # says what is missing before there is a run
    with opened_run(KIND, KIND, config, run=run, resume=resume, command=command, say=say) as opened:
        config = opened.config  # type: ignore[assignment]
        assert isinstance(config, FinetuneConfig)
        limit = load_config(adapted.base).max_context_tokens
        prepared = prepare_examples(config, adapted.tokenizer_folder, max_context_tokens=limit, say=opened.say)
        require_same_data(opened, prepared)
        folder = start_folder(config.model, opened.directory.path, opened.say)  # may write a model: after what can fail
        prepared.template.tokenizer.save(opened.directory.path)
        if show_mask is not None:
            show_mask(prepared)
        model = open_model(config, folder, prepared.template, run=opened.directory.path, say=opened.say)
        return train(opened, config, prepared, model, hooks=hooks, show_sample=show_sample)


def train(
    opened: OpenedRun,
    config: FinetuneConfig,
    prepared: PreparedExamples,
    model: OpenedModel,
    *,
    hooks: Sequence[Hook],
    show_sample: Callable[[int, dict[str, Any]], None] | None,
) -> FinetuneResult:
    """`finetune` once everything is at hand."""
    from mamba_slm.finetuning.adapters.proof import GradientProof
    from mamba_slm.finetuning.rounding import round_all
    from mamba_slm.finetuning.trainer import make_trainer

    say, template = opened.say, prepared.template
    rows = rows_of(prepared.train.examples, config, prepared.context_tokens)
    held_out = None
    if prepared.validation is not None:
        measured = at_most(prepared.validation, config.validation_tokens)
        held_out = rows_of(measured, config, prepared.context_tokens)
        if len(measured) < len(prepared.validation.examples):
            say(f"measured on {len(measured):,} of the held-out examples (--validation-tokens)")
    say(str(rows) if config.packing else f"{len(rows):,} examples, each in a row of its own")
    row_tokens = prepared.context_tokens if config.packing else max(1.0, sum(map(tokens_of, rows)) / len(rows))
    device_type = torch.device(config.device).type
    plan = plan_steps(config, num_rows=len(rows), row_tokens=row_tokens, device_type=device_type)
    say(str(plan))
    shape = shape_of(config, plan, context_tokens=prepared.context_tokens, device_type=device_type)
    say(f"estimated memory {memory_text(estimate_finetune_memory(model.config, shape))}")
    parameters = count_parameters(model.config).total
    num_trained = sum(each.numel() for each in model.model.parameters() if each.requires_grad)
    peak_rate, reason = config.peak_rate(parameters)
    say(f"learning rate {peak_rate:.1e} ({reason})")
    config_note = round_all(model.model, config, say)
    opened.describe(
        model=model.config,
        data=prepared.record(),
        peak=peak_of(config.device, config.precision),
        flops_per_token=flops_per_token(config, model.config, prepared.context_tokens),
        estimate=planned(model.config, shape, plan, row_tokens=row_tokens),
    )
    watching: list[Hook] = []
    if config.sample_every_steps:
        sampler = make_sampler(
            template, prepared.questions, config.prompts, max_context_tokens=model.config.max_context_tokens
        )
        watching.append(SampleHook(sampler, every_steps=config.sample_every_steps, show=show_sample))
    pad_id = template.tokenizer.pad_id
    trainer = make_trainer(
        opened,
        model.model,
        config,
        plan,
        rows=rows,
        held_out=held_out,
        collate=packed_collator(pad_id) if config.packing else padded_collator(pad_id),
        peak_rate=peak_rate,
        callbacks=[GradientProof(say)],
    )
    result = opened.train(trainer, hooks=[*watching, *hooks], view=language_model_of)
    if result.interrupted:
        return FinetuneResult(training=result, parameters=parameters, trained_parameters=num_trained)
    kept_step = result.step
    if result.best_checkpoint is not None and step_of(result.best_checkpoint) != result.step:
        kept_step = step_of(result.best_checkpoint)
        say(f"the best validation was after step {kept_step:,}: these weights are kept")
        go_back_to(result.best_checkpoint, model, is_adapter=config.method != "full")
    adapter, finished = write_outcome(opened.directory, config, model, template, config_note=config_note, say=say)
    before, after = kept_losses(opened.recorder.validations, kept_step)
    found = FinetuneResult(
        training=result,
        adapter=adapter,
        model=finished,
        loss_before=before,
        loss_after=after,
        trained_parameters=num_trained,
        parameters=parameters,
    )
    write_changes(opened.directory.path, changes_found(opened.directory, kept_step))
    opened.finish(result, **{name: value for name, value in found.row().items() if name not in result.row()})
    return found


def flops_per_token(config: FinetuneConfig, model: ModelConfig, context_tokens: int) -> float:
    """Of forward and backward pass: frozen weights need gradients of their inputs, and none of themselves."""
    whole = train_flops_per_token(model, context_tokens)
    return whole if config.method == "full" else whole * 2 / 3


def changes_found(run: RunDirectory, kept_step: int) -> list[Change]:
    """What became better and what worse: held-out loss, and benchmarks asked before and after."""
    asked: dict[str, list[dict[str, Any]]] = {}
    for row in read_metrics(run.benchmarks_file):
        asked.setdefault(f"{row['task']} ({row['metric']})", []).append(row)
    benchmarks = [
        score_change(
            name,
            (rows[0]["score"], rows[0]["stderr"]),
            (rows[-1]["score"], rows[-1]["stderr"]),
            count=rows[-1]["questions"] or 0,
        )
        for name, rows in asked.items()
        if rows[0]["step"] == 0 and rows[-1]["step"] > 0
    ]
    return [*loss_changes(run.path, kept_step), *benchmarks]


def require_same_data(opened: OpenedRun, prepared: PreparedExamples) -> None:
    """A resumed run goes through the same rows in the same order, or not at all.

    Raises:
        DataError: the data are not those that the run began with.
    """
    file = opened.directory.data_file
    if opened.checkpoint is None or not file.is_file():
        return
    began_with = json.loads(file.read_text(encoding="utf-8")).get("fingerprint")
    if began_with not in (None, prepared.fingerprint):
        sources = ", ".join(name for name, _ in prepared.sources)
        raise DataError(
            f"{opened.directory.path} began with other examples than {sources} holds now",
            hint="bring the data back as they were, or begin a new run with the adapter or model that this one left",
        )


def dry_plan(config: FinetuneConfig, prepared: PreparedExamples) -> StepPlan:
    """The steps of a run that is not begun, with `config.device` resolved."""
    rows = rows_of(prepared.train.examples, config, prepared.context_tokens)
    row_tokens = prepared.context_tokens if config.packing else max(1.0, sum(map(tokens_of, rows)) / len(rows))
    return plan_steps(config, num_rows=len(rows), row_tokens=row_tokens, device_type=torch.device(config.device).type)
