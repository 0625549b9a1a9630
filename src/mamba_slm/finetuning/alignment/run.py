"""One call that aligns: run directory, data, model, TRL's trainer, adapter. The command line and Python use the same.

from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.run import align

result = align(AlignConfig(model="runs/faq", objective="dpo", data=("pairs.jsonl",)), run="runs/better")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.optional import require
from mamba_slm.finetuning.alignment.before_and_after import Measured, measure
from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.data import PreparedAlignment, prepare_alignment
from mamba_slm.finetuning.alignment.outcome import AlignResult, keep_measured, write_what_was_trained
from mamba_slm.finetuning.alignment.plan import plan_of
from mamba_slm.finetuning.alignment.setup import tell_tokens, without_known_warnings
from mamba_slm.finetuning.opened_model import OpenedModel, open_model
from mamba_slm.finetuning.outcome import go_back_to
from mamba_slm.finetuning.recording import OpenedRun, opened_run
from mamba_slm.finetuning.run import require_same_data
from mamba_slm.finetuning.samples import make_sampler
from mamba_slm.finetuning.shared_model import language_model_of
from mamba_slm.finetuning.start import start_folder
from mamba_slm.finetuning.step_plan import StepPlan
from mamba_slm.model.adapter_choice import resolve_adapted
from mamba_slm.model.checkpoint import load_config
from mamba_slm.model.count import train_flops_per_token
from mamba_slm.runs.layout import step_of
from mamba_slm.training.hooks import Hook, SampleHook
from mamba_slm.training.peak import peak_of

KIND = "align"


def align(
    config: AlignConfig,
    *,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    hooks: Sequence[Hook] = (),
    show_sample: Callable[[int, dict[str, Any]], None] | None = None,
    command: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> AlignResult:
    """Align a model, or go on with a run.

    Args:
        config: all settings; of a resumed run those of its config.yaml.
        run: the run directory; None makes a new one in the home of runs.
        resume: continue the run at `run` from its newest intact checkpoint.
        hooks: called in their order, after the built-in ones.
        show_sample: prints a sample.
        command: the command line to record; None takes this process's.
        say: takes lines for people, stderr by default; all of them go to log.txt, too.

    Returns: how the run ended, where the adapter or model is, and what held-out examples say before and after.

    Raises:
        CheckFailedError: gradients do not reach every trained tensor on the first two steps.
        UsageError, ConfigError, DataError: see `open_model`, `prepare_alignment`, `reward_named` and `opened_run`.
        MissingDependencyError: trl, peft or datasets is not installed.
        TrainingDivergedError: loss or gradients are not finite.
    """
    if not config.model:
        raise ConfigError("which model is to be aligned?", hint="give a model folder or a run")
    require("trl", extra="finetune", purpose="mamba-slm align")
    require("datasets", extra="finetune", purpose="mamba-slm align").disable_progress_bars()
    require("transformers", extra="finetune", purpose="mamba-slm align").utils.logging.disable_progress_bar()
    adapted = resolve_adapted(config.model)  # says what is missing before there is a run
    with opened_run(KIND, config.objective, config, run=run, resume=resume, command=command, say=say) as opened:
        config = opened.config  # type: ignore[assignment]
        assert isinstance(config, AlignConfig)
        limit = load_config(adapted.base).max_context_tokens
        prepared = prepare_alignment(config, adapted.tokenizer_folder, max_context_tokens=limit, say=opened.say)
        require_same_data(opened, prepared)  # type: ignore[arg-type]
        folder = start_folder(config.model, opened.directory.path, opened.say)  # may write a model: after what can fail
        prepared.template.tokenizer.save(opened.directory.path)
        return train(opened, config, prepared, folder, hooks=hooks, show_sample=show_sample)


def train(
    opened: OpenedRun,
    config: AlignConfig,
    prepared: PreparedAlignment,
    folder: Path,
    *,
    hooks: Sequence[Hook],
    show_sample: Callable[[int, dict[str, Any]], None] | None,
) -> AlignResult:
    """`align` once the data are there."""
    say = opened.say
    rollouts = None
    if config.objective == "grpo":
        from mamba_slm.finetuning.alignment.group_training import Rollouts, empty_rollouts, rewards_of

        rewards = rewards_of(config)
        for reward in rewards:
            reward.check(empty_rollouts((*prepared.prompts, *prepared.held_out_prompts), prepared.template.tokenizer))
        rollouts = Rollouts(config, prepared, rewards, file=opened.directory.path / "rollouts.jsonl", say=say)
    model = opened_for(config, folder, prepared, opened)
    plan = plan_of(config, prepared)
    say(str(plan))
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    num_trained = sum(each.numel() for each in model.model.parameters() if each.requires_grad)
    peak_rate, reason = config.peak_rate(parameters)
    say(f"learning rate {peak_rate:.1e} ({reason})")
    opened.describe(
        model=model.config,
        data=prepared.record(),
        peak=peak_of(config.device, config.precision),
        flops_per_token=train_flops_per_token(model.config, prepared.context_tokens),
        estimate={"parameters": parameters, "steps": plan.steps},
    )
    tell_tokens(model.model, prepared.template.tokenizer)
    measured = Measured(opened.directory.path)
    if opened.checkpoint is None:
        measured.before = measure(model.model, config, prepared, rollouts, rows_at_once=plan.rows_at_once, say=say)
        measured.keep()
    else:
        measured.recall()
    trainer = trainer_of(opened, model, config, plan, prepared, rollouts, peak_rate)
    watching: list[Hook] = []
    if config.sample_every_steps and config.objective != "reward":
        sampler = make_sampler(
            prepared.template, prepared.questions, config.prompts, max_context_tokens=model.config.max_context_tokens
        )
        watching.append(SampleHook(sampler, every_steps=config.sample_every_steps, show=show_sample))
    view = language_model_of if config.objective != "reward" else (lambda each: each)
    with without_known_warnings():
        result = opened.train(trainer, hooks=[*watching, *hooks], view=view)
    if result.interrupted:
        return AlignResult(training=result, parameters=parameters, trained_parameters=num_trained)
    best, kept_step = result.best_checkpoint, result.step
    if best is not None and step_of(best) != result.step and config.objective != "grpo":
        kept_step = step_of(best)
        say(f"the best validation was after step {kept_step:,}: these weights are kept")
        go_back_to(best, model, is_adapter=config.method != "full")
    measured.after = measure(
        model.model, config, prepared, rollouts, rows_at_once=plan.rows_at_once, before=measured.before, say=say
    )
    measured.keep()
    adapter, finished = write_what_was_trained(opened.directory, config, model, prepared.template, say=say)
    found = AlignResult(
        training=result, adapter=adapter, model=finished, measured=measured, parameters=parameters,
        trained_parameters=num_trained,
    )  # fmt: skip
    keep_measured(opened, found, kept_step)
    return found


def opened_for(config: AlignConfig, folder: Path, prepared: PreparedAlignment, opened: OpenedRun) -> OpenedModel:
    """The model that is trained: one that answers, or for "reward" one that scores."""
    if config.objective != "reward":
        settings: Any = config  # which has the same fields as a fine-tuning's
        return open_model(settings, folder, prepared.template, run=opened.directory.path, say=opened.say)
    from mamba_slm.finetuning.alignment.outcome import open_scorer

    return open_scorer(config, folder, prepared.template, run=opened.directory.path, say=opened.say)


def trainer_of(
    opened: OpenedRun,
    model: OpenedModel,
    config: AlignConfig,
    plan: StepPlan,
    prepared: PreparedAlignment,
    rollouts: Any,
    peak_rate: float,
) -> Any:
    """TRL's trainer for the objective, with the proof that gradients reach what is trained."""
    from mamba_slm.finetuning.alignment.proof import SomeGradientProof

    callbacks = [] if config.method == "full" else [SomeGradientProof(opened.say)]
    if rollouts is not None:
        from mamba_slm.finetuning.alignment.group_training import make_group_trainer

        return make_group_trainer(
            opened, model.model, config, plan, prepared, rollouts, peak_rate=peak_rate, callbacks=callbacks
        )
    from mamba_slm.finetuning.alignment.setup import make_trainer

    return make_trainer(opened, model.model, config, plan, prepared, peak_rate=peak_rate, callbacks=callbacks)
