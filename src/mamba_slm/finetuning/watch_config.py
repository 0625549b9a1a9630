"""What every run of a transformers Trainer lets one choose: limits, saving, measuring, where it runs. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Settings that `finetune` and `align` share, under the names that `train` has for them."""

    max_steps: int | None = None
    """Stop after this many optimiser steps."""

    max_minutes: float | None = None
    """Stop after this much wall time."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of matrix products; trained weights are float32. auto: bf16 where the hardware has it, else fp32."""

    gradient_checkpointing: bool = False
    """Keep only each sublayer's input and compute the rest again going back: less memory, about a third slower."""

    device: str = "auto"
    """cpu, cuda, cuda:1. auto: the first GPU, else the CPU."""

    threads: int | None = None
    """CPU threads. Unset: what torch chooses. Results are the same to the last bit only with the same number."""

    kernels: Literal["auto", "native", "torch"] = "auto"
    """Faster ways of single operations, compiled once per machine in seconds and tested before they count.
    auto: those that can be had; native: all of them, or an error; torch: PyTorch's operations."""

    seed: int = 0
    """Of new weights and of the order of the data."""

    log_every_steps: int = 10
    """Steps between two lines on the screen; the metrics file has every step."""

    save_every_steps: int = 200
    """Steps between two checkpoints."""

    save_every_minutes: float | None = 10.0
    """Longest time between two checkpoints."""

    keep_last: int = 2
    """Newest checkpoints to keep, besides the best one."""

    validate_every_steps: int = 100
    """Steps between two validations; each saves a checkpoint. The begin and the end of the run are measured, too."""

    early_stop_patience: int | None = None
    """Stop after this many validations in a row without a new best. Unset: never."""

    sample_every_steps: int = 100
    """Steps between two samples of text from the same prompts, step 0 included; 0 means none."""

    prompts: tuple[str, ...] = ()
    """What samples answer. Unset: the beginnings of held-out examples."""

    log: tuple[Literal["jsonl", "tensorboard", "wandb", "trackio"], ...] = ("jsonl",)
    """Where metrics go; jsonl is always written. wandb goes online only where somebody is logged in."""

    def __post_init__(self) -> None:
        at_least = {
            "max_steps": 1, "threads": 1, "log_every_steps": 1, "save_every_steps": 1, "keep_last": 1,
            "validate_every_steps": 1, "early_stop_patience": 1, "sample_every_steps": 0,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        for name in ("max_minutes", "save_every_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be > 0, got {value}")
