"""What one wants to know beside memory and time of a run: what else would fit, what is kept, what it costs elsewhere.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mamba_slm.core.hardware import SPOT_PRICE_SHARE, STORAGE_USD_PER_GIB_MONTH
from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import context_of_equal_flops, count_parameters, forward_flops_by_part, state_bytes
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.training.estimate import Estimate
from mamba_slm.training.memory_estimate import estimate_memory

MODEL_BYTES, CHECKPOINT_BYTES = 4, 12
"""Per parameter: float32 weights; weights and AdamW's two moments."""
MONTH_SECONDS = 30 * 86_400.0
MOST_ROWS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Prospects:
    """Beside an `Estimate`. `print(prospects)` shows it."""

    context_tokens: int
    flops_by_part: dict[str, float]
    """Forward, per token, averaged over rows of `context_tokens`."""

    largest_rows_at_once: int | None
    """Rows of `context_tokens` that fit into a device; 0: not even one; None where its memory is unknown."""

    sequence_bytes: int
    """State, keys and values of one sequence of `context_tokens` in use."""

    attention_only_sequence_bytes: int
    """The same with attention in every layer."""

    cheaper_from_tokens: int | None
    """`context_of_equal_flops`: from this context on the hybrid needs fewer FLOPs than attention alone."""

    checkpoint_bytes: int
    """One checkpoint."""

    stored_bytes: int
    """All checkpoints that are kept, the one being written, and the finished model."""

    storage_usd: float | None
    """For as long as the run takes; None without a time, or on a machine without a price."""

    spot_usd: float | None
    """The run on interruptible machines, at an assumed share of the price on demand."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {format_count(value)}" for name, value in self.flops_by_part.items())
        fewer = "" if self.cheaper_from_tokens is None else (
            f"; fewer FLOPs than attention alone of equal size from about {self.cheaper_from_tokens:,} tokens on"
        )  # fmt: skip
        lines = [
            f"FLOPs       3 × (forward per token: {parts}){fewer}",
            f"sequence    {format_bytes(self.sequence_bytes)} of state and keys at {self.context_tokens:,} tokens, "
            f"{format_bytes(self.attention_only_sequence_bytes)} with attention in every layer",
            f"storage     {format_bytes(self.stored_bytes)}: checkpoints of {format_bytes(self.checkpoint_bytes)} "
            "and the finished model" + ("" if self.storage_usd is None else f", ${self.storage_usd:,.2f}"),
        ]
        if self.spot_usd is not None:
            lines.append(
                f"spot        ${self.spot_usd:,.2f} at {SPOT_PRICE_SHARE:.0%} of that price (assumed), interruptions "
                "not counted"
            )
        if self.largest_rows_at_once is not None:
            rows = f"{self.largest_rows_at_once:,} rows of {self.context_tokens:,} tokens fit at once"
            lines.append(f"largest     {rows}" if self.largest_rows_at_once else "largest     not even one row fits")
        return "\n".join(lines)


def prospects(
    config: ModelConfig,
    plan: Estimate,
    *,
    context_tokens: int,
    precision: str,
    gradient_checkpointing: bool,
    on_gpu: bool,
    kernels: str = "native",
    optimizer: str = "adamw",
    keep_last: int = 2,
) -> Prospects:
    """All of it for a plan made with the same settings.

    Args:
        keep_last: `TrainConfig.keep_last`; the best checkpoint and the one being written come on top.
    """
    parameters = count_parameters(config).total
    checkpoint_bytes = CHECKPOINT_BYTES * parameters
    stored_bytes = (keep_last + 2) * checkpoint_bytes + MODEL_BYTES * parameters
    storage_usd = None
    if plan.seconds is not None and plan.cost_usd is not None:
        storage_usd = stored_bytes / 2**30 * STORAGE_USD_PER_GIB_MONTH * plan.seconds / MONTH_SECONDS
    twin = replace(config, pattern=config.pattern.replace(MAMBA, ATTENTION))
    return Prospects(
        context_tokens=context_tokens,
        flops_by_part=forward_flops_by_part(config, context_tokens),
        largest_rows_at_once=largest_rows_at_once(
            config,
            plan,
            context_tokens=context_tokens,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            on_gpu=on_gpu,
            kernels=kernels,
            optimizer=optimizer,
        ),
        sequence_bytes=state_bytes(config, context_tokens),
        attention_only_sequence_bytes=state_bytes(twin, context_tokens),
        cheaper_from_tokens=context_of_equal_flops(config),
        checkpoint_bytes=checkpoint_bytes,
        stored_bytes=stored_bytes,
        storage_usd=storage_usd,
        spot_usd=None if plan.cost_usd is None else SPOT_PRICE_SHARE * plan.cost_usd,
    )


def largest_rows_at_once(
    config: ModelConfig,
    plan: Estimate,
    *,
    context_tokens: int,
    precision: str,
    gradient_checkpointing: bool,
    on_gpu: bool,
    kernels: str = "native",
    optimizer: str = "adamw",
) -> int | None:
    """The largest micro-batch whose estimated memory fits into a device of the plan; None where that is unknown."""
    limit = plan.device_memory_bytes
    if limit is None:
        return None

    def fits(rows: int) -> bool:
        memory = estimate_memory(
            config,
            context_tokens=context_tokens,
            rows_at_once=rows,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            spread=plan.spread,
            on_gpu=on_gpu,
            kernels=kernels,
            optimizer=optimizer,
        )
        return memory.total <= limit

    low, high = 0, MOST_ROWS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
