"""How weights, gradients and moments of a run lie on its processes, as shares of the whole. Imports no torch.

| engine | weights | gradients | moments | and besides |
|---|---|---|---|---|
| plain, ddp | 1 | 1 | 1 | ddp's gradients lie in its buckets, and nothing twice |
| fsdp full | 1/n | 1/n | 1/n | the embedding whole during a pass, one other sublayer at a time |
| fsdp grad_optimizer | 1/n | 1/n | 1/n | all weights whole from the forward to the backward pass |
| fsdp none | 1 | 1 | 1 | |
| deepspeed ZeRO 1, 2, 3 | 1, 1, 1/n | 1, 1/n, 1/n | 1/n | a second float32 copy of the own share of weights; buckets |

n is the number of processes, or `shard_processes` (hybrid).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.config import TrainConfig

DEFAULT_ZERO_STAGE: Literal[1, 2, 3] = 2

ENGINES_OF = {
    "adamw": ("plain", "ddp", "fsdp", "deepspeed"),
    "adamw8bit": ("plain", "ddp"),
    "muon": ("plain", "ddp", "fsdp"),
}
"""Optimiser -> engines it works under."""


def why_not_shared(optimizer: str, precision: str) -> str | None:
    """Why fsdp cannot share a model out with these; None where it can.

    >>> why_not_shared("adamw", "bf16")
    >>> why_not_shared("adamw", "fp16")
    'fp16 cannot be shared out; --precision fp32 --engine fsdp can'
    """
    if "fsdp" not in ENGINES_OF[optimizer]:
        return f"{optimizer} works with no engine that shares a model out"
    if precision == "fp16":  # fsdp has no loss scale
        return "fp16 cannot be shared out; --precision fp32 --engine fsdp can"
    return None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a run lies on its processes; `Spread()` is a single one that holds everything."""

    engine: Literal["plain", "ddp", "fsdp", "deepspeed"] = "plain"
    """plain, ddp, fsdp or deepspeed."""

    processes: int = 1
    sharding: Literal["full", "grad_optimizer", "none"] = "full"
    """Of fsdp: full, grad_optimizer or none."""

    shard_processes: int | None = None
    """Of fsdp: processes that share one copy of the model; None means all."""

    zero_stage: Literal[1, 2, 3] = DEFAULT_ZERO_STAGE
    """Of deepspeed: 1, 2 or 3."""

    offload: bool = False
    """Weights (but not those of ZeRO 1 and 2) and moments lie in the memory of the CPU between uses."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"there must be at least one process, got {self.processes}")

    @property
    def group(self) -> int:
        """Processes among which the shares of one copy of the model lie."""
        if self.engine == "deepspeed":
            return self.processes
        if self.engine != "fsdp" or self.sharding == "none":
            return 1
        return min(self.shard_processes or self.processes, self.processes)

    @property
    def weights(self) -> float:
        """Share of the float32 weights that a process keeps between steps."""
        return 1.0 if self.engine == "deepspeed" and self.zero_stage < 3 else 1 / self.group

    @property
    def gradients(self) -> float:
        """Share of the gradients at the end of a backward pass."""
        return 1.0 if self.engine == "deepspeed" and self.zero_stage < 2 else 1 / self.group

    @property
    def moments(self) -> float:
        """Share of the optimiser's state."""
        return 1 / self.group

    @property
    def gathers(self) -> bool:
        """Whether a process collects weights when it computes with them."""
        return self.weights < 1

    def __str__(self) -> str:
        if self.processes == 1:
            return "one process"
        words = [f"{self.engine} over {self.processes} processes"]
        if self.engine == "fsdp":
            words.append(self.sharding if self.group in (1, self.processes) else f"groups of {self.group}")
        if self.engine == "deepspeed":
            words.append(f"ZeRO {self.zero_stage}")
        return ", ".join(words + ["offloaded"] * self.offload)


def spread_of(config: TrainConfig, processes: int) -> Spread:
    """How a run with these settings lies on so many processes; `auto` is taken as ddp."""
    if processes == 1:
        return Spread()
    return Spread(
        engine="ddp" if config.engine == "auto" else config.engine,
        processes=processes,
        sharding=config.sharding,
        shard_processes=config.shard_processes,
        zero_stage=config.zero_stage or DEFAULT_ZERO_STAGE,
        offload=config.offload,
    )
