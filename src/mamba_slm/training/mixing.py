"""From prepared sources to the mixture and the batches that a run reads, and what a person should know about it."""

from __future__ import annotations

from collections.abc import Callable

from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.prefetch import PrefetchingLoader
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.place import rows_of_each
from mamba_slm.training.distributed.world import World
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


def loader_of(
    mixture: Mixture, config: TrainConfig, world: World, say: Callable[[str], None]
) -> BatchLoader | PrefetchingLoader:
    """The batches of this process: its share of the rows of every step, some of them read ahead."""
    rows = rows_of_each(config.rows_per_step, world.size, context_tokens=config.context_tokens)
    loader = BatchLoader(mixture, batch_rows=rows, rank=world.rank, world_size=world.size, say=say)
    return PrefetchingLoader(loader, ahead=config.prefetch_batches) if config.prefetch_batches else loader


def planned_samples(config: TrainConfig) -> int | None:
    """Rows that the run reads; None where its end is a time."""
    return None if config.limit_tokens is None else config.limit_tokens // config.context_tokens


def say_mixture(mixture: Mixture, samples: int | None, say: Callable[[str], None]) -> None:
    """Say what each of several sources contributes, and which are read too often in so many samples."""
    if len(mixture.sources) > 1:
        say(mixture.table(samples))
    for warning in mixture.warnings(samples or 0):
        say(f"careful: {warning}")
