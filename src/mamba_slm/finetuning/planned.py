"""What a fine-tuning is expected to need: the estimate of run.json and of `--dry-run`. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mamba_slm.core.units import format_bytes
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.memory_estimate import (
    FinetuneMemory,
    FinetuneShape,
    estimate_finetune_memory,
    trained_parameters,
)
from mamba_slm.finetuning.step_plan import StepPlan
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters

HOW = "memory: the sum of what is held at the peak of a step; no times: they depend on the data and this machine"


def shape_of(config: FinetuneConfig, plan: StepPlan, *, context_tokens: int, device_type: str) -> FinetuneShape:
    """The settings of a run as the estimate of memory wants them; `config.precision` is resolved."""
    return FinetuneShape(
        method=config.method,
        context_tokens=context_tokens,
        rows_at_once=plan.rows_at_once,
        precision="bf16" if config.precision == "bf16" else "fp32",
        gradient_checkpointing=config.gradient_checkpointing,
        lora=config.lora,
        four_bit=config.four_bit,
        half_base=None if config.base_weights == "auto" else config.base_weights == "bf16",
        optimizer=config.optimizer,
        on_gpu=device_type == "cuda",
        kernels="torch" if config.kernels == "torch" else "native",
    )


def planned(model: ModelConfig, shape: FinetuneShape, plan: StepPlan, *, row_tokens: float) -> dict[str, Any]:
    """The estimate as run.json holds it."""
    memory = estimate_finetune_memory(model, shape)
    return {
        "parameters": count_parameters(model).total,
        "trained_parameters": trained_parameters(model, shape),
        "steps": plan.steps,
        "tokens": plan.steps * round(plan.rows_per_step * row_tokens),
        "memory": asdict(memory),
        "memory_bytes": memory.total,
        "how": HOW,
    }


def memory_text(memory: FinetuneMemory) -> str:
    """The parts in one line."""
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in asdict(memory).items() if size >= 1)
    return f"{format_bytes(memory.total)}: {parts}"
