"""transformers' Trainer as fine-tuning uses it: no logits held, held-out loss by token, our optimiser and schedule."""

from __future__ import annotations

import mamba_slm.finetuning.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.held_out import HeldOutLosses, keep_losses, losses_of, rows_at_a_time
from mamba_slm.finetuning.recording import OpenedRun
from mamba_slm.finetuning.step_plan import StepPlan
from mamba_slm.model.projection import Projection
from mamba_slm.training.optim import build_optimizer


class FinetuneTrainer(Trainer):
    """Trains a model of ours as one of transformers, with or without adapters.

    Args:
        is_stopped: whether a stop was asked for, which ends a validation without a result.
        keep: told step and losses of every validation.
    """

    def __init__(
        self,
        *arguments: Any,
        is_stopped: Callable[[], bool] = lambda: False,
        keep: Callable[[int, HeldOutLosses], None] = lambda step, losses: None,
        **further: Any,
    ):
        super().__init__(*arguments, **further)
        self.is_stopped, self.keep = is_stopped, keep
        self.model_accepts_loss_kwargs = True  # behind peft, transformers does not see that it does

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss; the logits of all tokens are never held where the head is an ordinary matrix."""
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch, skip_logits=has_plain_head(self.model))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss over all held-out targets, in nats, which every example's own is kept besides; empty when a stop
        was asked for meanwhile."""
        rows: Sequence[Any] = self.eval_dataset if eval_dataset is None else eval_dataset  # type: ignore[assignment]
        model = self.model
        assert model is not None
        was_training = model.training
        inner = model.eval().get_base_model() if hasattr(model, "get_base_model") else model.eval()  # type: ignore[operator]
        found: list[tuple[float, int]] = []
        device = self.args.device
        for group in rows_at_a_time(rows, self.args.per_device_train_batch_size):
            if self.is_stopped():
                model.train(was_training)
                return {}
            batch = {name: tensor.to(device) for name, tensor in self.data_collator(group).items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=bool(self.args.bf16)):
                found += losses_of(inner, batch)
        model.train(was_training)
        losses = HeldOutLosses(tuple(total for total, _ in found), tuple(count for _, count in found))
        self.keep(self.state.global_step, losses)
        metrics = {f"{metric_key_prefix}_loss": losses.mean}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def has_plain_head(model: Any) -> bool:
    """Whether the head is a matrix alone: no adapter on it, not rounded, so that its weight says everything."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return type(inner.lm_head) is Projection


def make_trainer(
    opened: OpenedRun,
    model: nn.Module,
    config: FinetuneConfig,
    plan: StepPlan,
    *,
    rows: Sequence[Any],
    held_out: Sequence[Any] | None,
    collate: Callable[[Sequence[Any]], dict[str, Tensor]],
    peak_rate: float,
    callbacks: Sequence[Any],
) -> FinetuneTrainer:
    """A Trainer with the optimiser of `train`, and its schedule over the steps or minutes of the run.

    Raises:
        ConfigError: nothing is trainable, or a trained tensor is not float32.
        MissingDependencyError: the optimiser's library is not installed.
    """
    optimizer = build_optimizer(
        model,
        learning_rate=peak_rate,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
        epsilon=config.epsilon,
        name=config.optimizer,
    )
    schedule = config.run_schedule(peak=peak_rate)
    recorder, minutes = opened.recorder, config.max_minutes

    def share_of_peak(steps: int) -> float:
        """Of the step about to be taken: that of the progress at its end, so that the first is not 0."""
        by_time = recorder.seconds() / (60 * minutes) if minutes is not None else 0.0
        progress = min(1.0, max((steps + 1) / plan.steps, by_time))
        return schedule.learning_rate_at(progress) / schedule.peak

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak)
    arguments = opened.arguments(
        max_steps=plan.steps,
        per_device_train_batch_size=plan.rows_at_once,
        gradient_accumulation_steps=plan.passes_per_step,
        max_grad_norm=config.clip_norm,
        remove_unused_columns=False,
    )
    return FinetuneTrainer(
        model,
        TrainingArguments(**arguments),
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=held_out,
        optimizers=(optimizer, scheduler),
        callbacks=list(callbacks),
        is_stopped=lambda: recorder.stop.requested is not None,
        keep=lambda step, losses: keep_losses(opened.directory.path, step, losses),
    )
