"""What the trainer says about a step, a validation and a whole run. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One optimiser step."""

    step: int
    """Counted from 1."""
    tokens: int
    """Training tokens so far, this step included."""
    seconds: float
    """Wall time of the run so far, earlier parts of a resumed run included."""
    loss: float
    """Mean over the targets of the step, in nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens_per_second: float
    """Of this step, without saving and measuring."""
    mfu: float | None
    """Model FLOP/s over the machine's peak; None where the peak is unknown."""
    memory_bytes: int
    """Resident memory of the process, or the peak on the GPU."""

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl."""
        return {"kind": "train", **vars(self)}


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """One source at one validation."""

    epochs: float
    """How often its text has been read so far."""
    loss: float | None = None
    """Mean over its held-out targets, in nats; None where it has none of its own."""
    bits_per_byte: float | None = None

    def row(self) -> dict[str, Any]:
        """Its part of the validation's row of metrics.jsonl."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:.3f}, "
        return f"{loss}read {self.epochs:.2f} times"


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """One validation."""

    step: int
    tokens: int
    loss: float
    """Mean over all targets, in nats."""
    bits_per_byte: float | None
    """Loss in bits over the UTF-8 bytes of the targets; None without a tokenizer."""
    is_best: bool
    sources: Mapping[str, SourceReport] = field(default_factory=dict)
    """Each source of the training data by itself."""

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl."""
        row = {
            "kind": "validation", "step": self.step, "tokens": self.tokens, "loss": self.loss,
            "bits_per_byte": self.bits_per_byte,
        }  # fmt: skip
        return (
            row if not self.sources else {**row, "sources": {name: part.row() for name, part in self.sources.items()}}
        )


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    run: Path
    """The run directory."""
    reason: str
    """Why it ended: a limit, early stopping, or the signal that interrupted it."""
    interrupted: bool
    """Whether it is to be resumed: the run has not reached its end."""
    step: int
    tokens: int
    seconds: float
    loss: float | None
    """Mean training loss over the last steps (at most 20), in nats; None when there was no step."""
    best_validation_loss: float | None
    last_checkpoint: Path | None
    best_checkpoint: Path | None
    memory_bytes: int
    """Largest of the run."""

    def row(self) -> dict[str, Any]:
        """For run.json."""
        row = dict(vars(self))
        for name in ("run", "last_checkpoint", "best_checkpoint"):
            row[name] = None if row[name] is None else row[name].name
        return row
