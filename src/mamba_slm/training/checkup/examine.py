"""The whole check-up of a run's settings: what would be trained is built, fed one batch, and taken one step."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.data.loader import Batch, BatchLoader
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, train_flops_per_token
from mamba_slm.model.init import build_model
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA, plugin_letters_in
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.checkup.initialisation import check_initialisation
from mamba_slm.training.checkup.settings import check_dtypes, check_kernels, check_sharding, judge_groups
from mamba_slm.training.checkup.step import judge_gradients, judge_loss, judge_memory, judge_update, take_step
from mamba_slm.training.compiling import compile_sublayers
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.finding import Finding
from mamba_slm.training.distributed.world import alone
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.kernels import kernels_in_use
from mamba_slm.training.mixing import mixture_of
from mamba_slm.training.plan import model_config_for
from mamba_slm.training.precision import DTYPES, Precision, choose_device, choose_precision
from mamba_slm.training.run import estimate_run, prepare_config_data, with_choices

MOST_CPU_FLOPS = 5e12
"""A step of more than this on a CPU would take minutes, and is looked at on a thinner model."""
FILLS = 0.8
"""A model is made thinner when its step is planned to need more than this share of the memory."""


def examine_training(config: TrainConfig, *, processes: int = 1, say: Callable[[str], None]) -> list[Finding]:
    """The findings, in the order in which a run would meet what they are about.

    Args:
        config: of the run; without `data` the batch is random tokens.
        processes: that the run would have; sharding is judged by arithmetic, one process does the rest.
        say: told what is being done.

    Raises:
        ConfigError, DataError, SetupError: settings that `train` refuses, too.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    config = with_choices(config, device, choose_precision(config.precision, device.value))
    with kernels_in_use(config.kernels, config.device, say) as line, tempfile.TemporaryDirectory() as folder:
        findings = [check_sharding(config, processes), check_kernels(config, line)]
        vocab_size, batch, described = first_batch(config, Path(folder), say)
        whole = model_config_for(config, vocab_size=vocab_size)
        chosen, size = choose_size(config, whole)
        findings.insert(0, size)
        if chosen is None:
            return findings
        say(f"building {chosen.pattern} and taking one step with {len(batch.inputs)} rows of {config.context_tokens}")
        model = build_model(chosen, seed=config.seed, device=config.device)
        findings.append(check_initialisation(model))
        model.gradient_checkpointing = config.gradient_checkpointing
        if config.compile:
            compile_sublayers(model, config.device)
        precision = Precision(config.precision, config.device)  # type: ignore[arg-type]
        engine = Engine(model, config, precision, config.device, alone())
        findings.append(judge_groups(engine.optimizer.param_groups, model.named_parameters()))
        rate = first_rate(config)
        step = take_step(engine, batch, rate)
        if not config.compile:  # hooks do not see into compiled sublayers
            findings.append(check_dtypes(model, step.dtypes, DTYPES[config.precision]))
        findings += [
            judge_loss(step, chosen, batch=described),
            judge_gradients(step, model),
            judge_update(step, model, rate),
        ]
        plan = estimate_run(config, chosen, None)
        findings.append(judge_memory(step, planned=plan.memory.total, available=plan.device_memory_bytes))
        return findings


def first_rate(config: TrainConfig) -> float:
    """The learning rate of the first step; of a run without a limit that of a thousand steps."""
    limited = config if config.has_limit else dataclasses.replace(config, max_steps=1000)
    share = limited.limits().progress(tokens=limited.batch_tokens, steps=1, seconds=0.0)
    return limited.run_schedule().learning_rate_at(share)


def first_batch(config: TrainConfig, folder: Path, say: Callable[[str], None]) -> tuple[int | None, Batch, str]:
    """Vocabulary of the tokenizer, the first rows of one pass, and what they are; text is tokenized into `folder`."""
    rows = config.rows_at_once
    if not config.data:
        model = model_config_for(config)
        random = np.random.default_rng(config.seed)
        tokens = random.integers(0, model.vocab_size, (rows, config.context_tokens + 1))
        batch = Batch(
            inputs=tokens[:, :-1], targets=tokens[:, 1:], document_ids=np.zeros((rows, config.context_tokens), np.int32)
        )
        return None, batch, "random tokens (no --data)"
    prepared = prepare_config_data(config, RunDirectory.create(folder / "run"), say)
    loader = BatchLoader(mixture_of(prepared, config), batch_rows=rows)
    return prepared.tokenizer.vocab_size, next(loader), "the first rows of the data"


def choose_size(config: TrainConfig, model: ModelConfig) -> tuple[ModelConfig | None, Finding]:
    """The model to look at: the one to train, or a thinner one where a step of it is too much for here."""
    described = f"{config.model}: {format_count(count_parameters(model).total)} parameters, {model.pattern}"
    plan = estimate_run(config, model, None)
    there = plan.device_memory_bytes
    too_large = there is not None and plan.memory.total > FILLS * there
    step_flops = config.rows_at_once * config.context_tokens * train_flops_per_token(model, config.context_tokens)
    too_slow = config.device == "cpu" and step_flops > MOST_CPU_FLOPS
    if not too_large and not too_slow:
        return model, Finding(name="model", text=described)
    why = (
        f"its step is planned to need {format_bytes(plan.memory.total)} of {format_bytes(there or 0)}"
        if too_large
        else f"its step is {step_flops:.0e} FLOP, minutes on this CPU"
    )
    pattern = "".join(
        kind for kind in (MAMBA, FEED_FORWARD, ATTENTION, *plugin_letters_in(model.pattern)) if kind in model.pattern
    )
    thin = dataclasses.replace(model, pattern=pattern)
    needs = estimate_run(config, thin, None).memory.total
    if there is not None and needs > FILLS * there:
        text = f"{described}; {why}, and one of each sublayer still needs {format_bytes(needs)}: no step was taken"
        return None, Finding(name="model", status="warn", text=text, hint="run this on the machine that will train it")
    text = f"{described}; looked at with one sublayer of each kind ({pattern}), because {why}"
    return thin, Finding(name="model", status="warn", text=text, hint="run this on the machine that will train it")
