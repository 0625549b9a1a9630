"""What a conversion will be and cost, from the Transformer's config.json alone. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from typing import Any

from mamba_slm.core.hardware import Gpu
from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.finetuning.conversion.distillation import Distillation
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, train_flops_per_token
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.estimate import Estimate, estimate_training

HEADS_LOGITS_BYTES = 5 * 4 * 2**25
"""Logits, log-probabilities and gradients of both heads for one chunk (`divergence.CHUNK_LOGITS`)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The hybrid beside its teacher."""

    teacher: ModelConfig
    hybrid: ModelConfig
    estimate: Estimate
    """Of the run, with the time of the teacher's pass; its memory is without the teacher."""
    teacher_bytes: int
    """The teacher's weights, and the logits of two heads in place of one."""

    @property
    def memory_bytes(self) -> int:
        """What one device needs."""
        return self.estimate.memory_bytes + self.teacher_bytes

    @property
    def fits(self) -> bool | None:
        """Whether that suffices; None where the device's memory is unknown."""
        device = self.estimate.device_memory_bytes
        return None if device is None else self.memory_bytes <= device

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "pattern": self.hybrid.pattern,
            "parameters": count_parameters(self.hybrid).total,
            "source_parameters": count_parameters(self.teacher).total,
            "teacher_bytes": self.teacher_bytes,
            "memory_bytes": self.memory_bytes,
            "fits": self.fits,
            "memory": asdict(self.estimate.memory),
            "tokens": self.estimate.tokens,
            "tokens_per_second": self.estimate.tokens_per_second,
            "seconds": self.estimate.seconds,
            "cost_usd": self.estimate.cost_usd,
            "how": self.estimate.how,
        }

    def __str__(self) -> str:
        found, kept = self.estimate, self.hybrid.num_attention
        parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in asdict(found.memory).items() if size >= 1)
        memory = f"{format_bytes(self.memory_bytes)}: teacher {format_bytes(self.teacher_bytes)}, {parts}"
        if self.fits is not None:
            device = format_bytes(found.device_memory_bytes or 0)
            memory += f"; {'fits' if self.fits else 'does not fit'} in {device}"
        lines = [
            f"teacher     {format_count(count_parameters(self.teacher).total)} parameters",
            f"hybrid      {format_count(found.parameters)} parameters, {kept} of {self.hybrid.num_layers} layers keep "
            "attention",
            f"pattern     {self.hybrid.pattern}",
            f"memory      {memory}",
        ]
        if found.tokens is not None:
            lines.append(f"tokens      {format_count(found.tokens)}")
        if found.tokens_per_second is not None:
            lines.append(f"speed       {format_count(found.tokens_per_second)} tok/s")
        if found.seconds is not None:
            lines.append(f"time        {format_seconds(found.seconds)} on one {found.device_name}")
        if found.cost_usd is not None:
            lines.append(f"cost        ${found.cost_usd:,.2f}")
        return "\n".join([*lines, f"how         {found.how}; the teacher's forward pass is counted"])


def plan_conversion(
    teacher: ModelConfig,
    hybrid: ModelConfig,
    config: TrainConfig,
    distillation: Distillation,
    gpu: Gpu | None = None,
    *,
    price_per_hour_usd: float | None = None,
) -> Plan:
    """Estimate a run of `distill` on one device.

    The teacher adds its weights and a forward pass, a third of its training's arithmetic; the first stage, which leaves
    the copied weights out, is counted like the second.

    Args:
        gpu: a row of `core.hardware`; None means this CPU, whose speed is not measured here.
    """
    precision = config.precision if config.precision != "auto" else ("bf16" if gpu is not None else "fp32")
    found = estimate_training(
        hybrid,
        context_tokens=config.context_tokens,
        batch_tokens=config.batch_tokens,
        rows_at_once=config.rows_at_once,
        tokens=config.limit_tokens,
        precision=precision,
        gradient_checkpointing=config.gradient_checkpointing,
        gpu=gpu,
        optimizer=config.optimizer,
        price_per_hour_usd=price_per_hour_usd,
    )
    own = train_flops_per_token(hybrid, config.context_tokens)
    slower = 1 + train_flops_per_token(teacher, config.context_tokens) / 3 / own
    memory = found.memory
    if distillation.trained == "mamba":
        trained = count_parameters(hybrid).mamba / found.parameters
        memory = dataclasses.replace(memory, gradients=memory.gradients * trained, optimizer=memory.optimizer * trained)

    def scaled(value: float | None, factor: float) -> float | None:
        return None if value is None else value * factor

    found = dataclasses.replace(
        found,
        memory=memory,
        tokens_per_second=scaled(found.tokens_per_second, 1 / slower),
        step_seconds=scaled(found.step_seconds, slower),
        seconds=scaled(found.seconds, slower),
        cost_usd=scaled(found.cost_usd, slower),
    )
    weights = count_parameters(teacher).total * (4 if precision == "fp32" else 2)
    logits = min(HEADS_LOGITS_BYTES, 5 * 4 * config.rows_at_once * config.context_tokens * hybrid.vocab_size)
    return Plan(teacher=teacher, hybrid=hybrid, estimate=found, teacher_bytes=weights + logits)
