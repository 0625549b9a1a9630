"""How each source of a mixture is doing: its own validation loss, and how often it has been read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mamba_slm.data.loader import Batch, validation_batches
from mamba_slm.data.mixture import Mixture
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.prepare import PreparedData
from mamba_slm.training.reports import SourceReport

Batches = Callable[[], Iterable[Batch]]
Validated = Callable[[Iterable[Batch]], tuple[float, float | None] | None]
"""From batches to loss and bits per byte; None when a stop was asked for meanwhile."""


class CountsSamples(Protocol):
    """A loader that says how many rows all processes have read."""

    @property
    def sample(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class SourceWatch:
    """The sources of a run; without any it reports nothing."""

    epochs: Callable[[], Mapping[str, float]] = dict
    """How often each source has been read so far."""
    held_out: Mapping[str, Batches] = field(default_factory=dict)
    """Of each source that has text of its own to validate on, the same batches at every call."""

    def reports(self, validated: Validated) -> dict[str, SourceReport]:
        """Validate on each source by itself. Called by all processes, since `validated` is."""
        measured = {name: validated(batches()) for name, batches in self.held_out.items()}
        reports = {}
        for name, epochs in self.epochs().items():
            loss, bits_per_byte = measured.get(name) or (None, None)
            reports[name] = SourceReport(epochs=epochs, loss=loss, bits_per_byte=bits_per_byte)
        return reports


def watch_sources(prepared: PreparedData, mixture: Mixture, loader: CountsSamples, config: TrainConfig) -> SourceWatch:
    """The sources of a run. The tokens of a validation are shared among them, a row each at least."""
    found = prepared.validation_by_source
    each = max(config.context_tokens, config.validation_tokens // max(1, len(found)))

    def batches_of(shards: Any) -> Batches:
        return lambda: validation_batches(
            shards, context_tokens=config.context_tokens, batch_rows=config.rows_at_once, max_tokens=each
        )

    return SourceWatch(
        epochs=lambda: mixture.epochs(loader.sample),
        held_out={name: batches_of(shards) for name, shards in found.items()},
    )


def described(reports: Mapping[str, SourceReport]) -> str:
    """All sources in one line; nothing where there is only one."""
    if len(reports) < 2:
        return ""
    return "; ".join(f"{name}: {report}" for name, report in reports.items())
