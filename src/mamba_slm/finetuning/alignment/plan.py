"""How many examples make a step, how many go through the model at once, how many steps make the run."""

from __future__ import annotations

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.data import PreparedAlignment
from mamba_slm.finetuning.step_plan import TOKENS_AT_ONCE, StepPlan


def plan_of(config: AlignConfig, prepared: PreparedAlignment) -> StepPlan:
    """How many examples make a step, how many go through the model at once, how many steps make the run.

    A row is an example: a pair is two texts, and a prompt of grpo a group of answers.
    """
    device = torch.device(config.device).type
    examples = prepared.num_examples
    per_step = min(config.batch_examples, examples)
    per_epoch = -(-examples // per_step)
    texts = {"grpo": config.group}.get(config.objective, 1)
    tokens = prepared.mean_tokens + (config.max_new_tokens if config.objective == "grpo" else 0)
    tokens *= 1 if config.objective in ("grpo", "kto") else 2
    rows = per_step * texts
    most = config.micro_batch_rows or max(1, int(TOKENS_AT_ONCE.get(device, 8192) / max(1.0, tokens)))
    divisors = [count for count in range(1, rows + 1) if rows % count == 0 and count <= most]
    at_once = max(divisors)
    if config.objective == "kto":
        at_once = max(at_once, min(2, rows))  # whose divergence is estimated from other answers of the same pass
        if rows % at_once or at_once < 2:
            raise ConfigError("kto needs an even number of answers in a step", hint="--batch-examples 16")
    steps = max(1, round(config.epochs * per_epoch)) * config.updates
    return StepPlan(
        num_rows=examples * texts,
        rows_per_step=rows,
        rows_at_once=at_once,
        steps_per_epoch=per_epoch,
        steps=steps if config.max_steps is None else min(steps, config.max_steps),
    )
