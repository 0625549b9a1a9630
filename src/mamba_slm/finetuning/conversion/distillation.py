"""How a converted model learns from the Transformer that it was. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mamba_slm.core.errors import ConfigError

TRAINING: dict[str, Any] = {
    "weight_decay": 0.0,
    "warmup_share": 0.05,
    "final_share": 0.05,
    "spike_sigmas": 1e6,
    "spike_patience_steps": 0,
    "sample_every_steps": 0,
}
"""Settings of training that begin otherwise than in `train`: its loss jumps where the second stage begins."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Two stages: every new layer learns the update of the attention it replaces, then the whole model the logits."""

    align_share: float = 0.2
    """Share of the run's tokens for the first stage: each Mamba-2 layer reads what the teacher's layer read, and learns
    to write what it wrote. In [0, 1]; 0 leaves the stage out."""

    teacher_weight: float = 0.5
    """Weight of the teacher's distribution of next tokens in the second stage; the text's own next token has the rest.
    In [0, 1]."""

    temperature: float = 1.0
    """Both distributions are flattened by it before they are compared; 1 compares them as they are."""

    trained: Literal["all", "mamba"] = "all"
    """What the second stage trains: all weights, or the new layers alone, which needs much less memory."""

    def __post_init__(self) -> None:
        for name in ("align_share", "teacher_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")
