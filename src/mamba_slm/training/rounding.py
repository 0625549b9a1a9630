"""Training with matrices rounded as they will be stored (`qat`): which, and from which step on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.rounded import Switch, round_in_training
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.trained_for import TRAINED_FOR_KEY
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.rounding_plan import rounding_plan


def plan_of(config: TrainConfig) -> Quantization | None:
    """How the settings want matrices to be rounded; None where they do not."""
    if config.qat is None:
        return None
    return rounding_plan(config.qat, keep=config.qat_keep, block_size=config.qat_block_size)


def config_note(config: TrainConfig) -> dict[str, Any]:
    """What config.json of a checkpoint says besides the model, so that `quantize` finds the formats it was made for."""
    plan = plan_of(config)
    return {} if plan is None else {TRAINED_FOR_KEY: plan.to_json()}


def say_rounding(config: TrainConfig, model: ModelConfig, say: Callable[[str], None]) -> None:
    """Say how matrices are rounded, and which are not although they were to be.

    Raises:
        UnknownNameError: `qat_keep` names a part that no model has.
    """
    plan = plan_of(config)
    if plan is None:
        return
    plan = plan.for_model(model)
    start = f" from step {config.qat_start_step + 1} on, in validation from the start" * (config.qat_start_step > 0)
    say(f"qat: matrices are rounded in every pass{start} ({plan}); checkpoints keep them in float32")
    wanted = plan.fitted_to(model)
    if left := [name for name, scheme in wanted.items() if scheme is None and plan.scheme_of(name) is not None]:
        say(f"qat: not rounded, since no block divides their rows: {', '.join(left)}")


class Rounding:
    """The rounding of one run; nothing at all without `qat`."""

    def __init__(self, config: TrainConfig):
        self.plan, self.start_step = plan_of(config), config.qat_start_step
        self.switch = Switch()

    def install(self, model: LanguageModel) -> LanguageModel:
        """The same model, with matrices that can be rounded. Parameters and their names stay."""
        if self.plan is not None:
            round_in_training(model, self.plan, self.switch)
        return model

    def begin_step(self, step: int) -> None:
        """Round in the step after `step` steps, or not yet."""
        self.switch.is_on = self.plan is not None and step >= self.start_step

    @contextlib.contextmanager
    def always(self) -> Iterator[None]:
        """Round in this block whatever the step: what counts is the model as it will be stored."""
        before, self.switch.is_on = self.switch.is_on, self.plan is not None
        try:
            yield
        finally:
            self.switch.is_on = before
