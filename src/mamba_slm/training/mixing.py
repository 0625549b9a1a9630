"""From prepared sources to the mixture that a run reads, and what a person should know about it."""

from __future__ import annotations

from collections.abc import Callable

from mamba_slm.data.mixture import Mixture
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.prepare import PreparedData


def mixture_of(prepared: PreparedData, config: TrainConfig) -> Mixture:
    """The rows of a run."""
    return Mixture(
        prepared.sources,
        context_tokens=config.context_tokens,
        seed=config.seed,
        temperature=prepared.temperature,
        changes=[(tokens // config.context_tokens, weights) for tokens, weights in prepared.changes],
    )


def planned_samples(config: TrainConfig) -> int | None:
    """Rows that the run reads; None where its end is a time."""
    return None if config.limit_tokens is None else config.limit_tokens // config.context_tokens


def say_mixture(mixture: Mixture, samples: int | None, say: Callable[[str], None]) -> None:
    """Say what each of several sources contributes, and which are read too often in so many samples."""
    if len(mixture.sources) > 1:
        say(mixture.table(samples))
    for warning in mixture.warnings(samples or 0):
        say(f"careful: {warning}")
