"""How many rows make a step, how many of them go through the model at once, and how many steps make the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mamba_slm.finetuning.config import FinetuneConfig

FEW_STEPS = 10
TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 8192}
"""As `train` has it: so few stay in a CPU's caches; a GPU needs more to be busy."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The shape of a run."""

    num_rows: int
    rows_per_step: int
    rows_at_once: int
    """Divides `rows_per_step`."""
    steps_per_epoch: int
    steps: int
    """Of the whole run."""
    has_few: bool = False
    """Whether the data are so few that the run ends before the model has learned them, and nobody asked for that."""

    @property
    def passes_per_step(self) -> int:
        """Passes through the model before the weights change."""
        return self.rows_per_step // self.rows_at_once

    def __str__(self) -> str:
        return (
            f"{self.rows_per_step} rows in a step, {self.rows_at_once} at once; {self.steps_per_epoch:,} steps for all "
            f"{self.num_rows:,} rows, {self.steps:,} in the run"
            + (", which are few: more --epochs or a smaller --batch-tokens make more" if self.has_few else "")
        )


def plan_steps(config: FinetuneConfig, *, num_rows: int, row_tokens: float, device_type: str) -> StepPlan:
    """Deal rows to steps.

    Args:
        num_rows: of the training data.
        row_tokens: of a row, in the mean.
        device_type: "cpu" or "cuda".

    >>> plan_steps(FinetuneConfig(epochs=3), num_rows=70, row_tokens=512, device_type="cpu").steps
    15
    """
    wanted = max(1, min(num_rows, round(config.batch_tokens / row_tokens)))
    most = config.micro_batch_rows or max(1, int(TOKENS_AT_ONCE.get(device_type, 8192) / row_tokens))
    at_once = max(rows for rows in range(1, min(wanted, most) + 1) if wanted % rows == 0)
    per_epoch = math.ceil(num_rows / wanted)
    steps = max(1, round(config.epochs * per_epoch))
    return StepPlan(
        num_rows=num_rows,
        rows_per_step=wanted,
        rows_at_once=at_once,
        steps_per_epoch=per_epoch,
        steps=steps if config.max_steps is None else min(steps, config.max_steps),
        has_few=steps < FEW_STEPS and config.max_steps is None,
    )
