"""Loss on held-out rows, dealt to the processes that hold the model together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch

from mamba_slm.core.errors import DataError
from mamba_slm.data.loader import Batch
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.gradients import micro_batches, on_device


@torch.no_grad()
def validate_together(
    engine: Engine,
    batches: Iterable[Batch],
    *,
    bytes_per_token: np.ndarray | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> tuple[float, float | None] | None:
    """`validation.validate` by all processes: each takes every n-th batch, and the sums are added up.

    All processes pass equally many batches of the same length through the model, because a sharded one needs all of
    them for every pass; one without a batch of its own computes the group's first again and does not count it.

    Args:
        batches: the same in every process.
        bytes_per_token: from `token_lengths`; None gives no bits per byte.
        is_stopped: asked between batches; when true in any process, the result is None.

    Raises:
        DataError: there are no targets.
    """
    world, iterator = engine.world, iter(batches)
    sums = np.zeros(3)  # loss, targets, bytes
    was_training = engine.model.training
    engine.loss_of.eval()
    try:
        while group := list(itertools.islice(iterator, world.size)):
            if world.any(is_stopped()):
                return None
            is_own = world.rank < len(group)
            batch = group[world.rank] if is_own else group[0]
            with world.watched():
                loss = loss_of_batch(engine, batch, passes=passes_of(engine, group))
            if is_own:
                read = 0 if bytes_per_token is None else bytes_per_token[batch.targets[batch.targets >= 0]].sum()
                sums += loss, batch.num_targets, read
    finally:
        engine.loss_of.train(was_training)
    loss, targets, read = world.sum(*sums.tolist())
    if targets == 0:
        raise DataError("the validation data has nothing to predict", hint="give more of it, or --validation-share 0")
    return loss / targets, loss / math.log(2) / read if read else None


def passes_of(engine: Engine, group: list[Batch]) -> int:
    """Micro-batches of the longest batch of a group."""
    return -(-max(len(batch.inputs) for batch in group) // engine.config.rows_at_once)


def loss_of_batch(engine: Engine, batch: Batch, *, passes: int) -> float:
    """Sum of losses of a batch in nats; empty passes at its end keep in step with longer batches."""
    total = 0.0
    slices = list(micro_batches(batch, engine.config.rows_at_once))
    for number in range(passes):
        counts = number < len(slices)
        inputs, targets, documents = on_device(batch, slices[number if counts else 0], engine.device)
        with engine.precision.autocast():
            loss = engine.forward(inputs, targets, documents)
        total += float(loss) if counts else 0.0
    return total
