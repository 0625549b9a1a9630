"""From a batch to gradients: micro-batches whose losses add up to the mean over all targets of the whole batch.

    loss = Σ over targets of the batch of −log p(target)  /  number of targets of the batch

Every micro-batch contributes its sum over the *batch's* number of targets. Dividing by its own number and averaging
would weigh a token more where a micro-batch has fewer targets.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import torch

from mamba_slm.core.errors import DataError
from mamba_slm.data.loader import Batch
from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.precision import Precision

LossOf = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From inputs, targets and document ids, each [b t], to the sum of losses in nats."""


def on_device(batch: Batch, rows: slice, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Some rows of a batch as tensors: inputs [b t], targets [b t], document_ids [b t]."""
    inputs, targets, documents = (
        torch.as_tensor(array[rows]).to(device, non_blocking=True)
        for array in (batch.inputs, batch.targets, batch.document_ids)
    )
    return inputs, targets, documents


def micro_batches(batch: Batch, rows_at_once: int) -> Iterator[slice]:
    """Cut the rows of a batch into slices of `rows_at_once`; the last may be smaller."""
    for start in range(0, len(batch.inputs), rows_at_once):
        yield slice(start, start + rows_at_once)


def accumulate_gradients(
    model: LanguageModel, batch: Batch, *, rows_at_once: int, precision: Precision, device: str
) -> float:
    """Add the gradients of the batch's mean loss to the parameters; return that loss in nats.

    Under fp16 the gradients are scaled; see `Precision`.

    Raises:
        DataError: the batch has no targets.
    """
    require_targets(batch.num_targets)

    def loss_sum(inputs: torch.Tensor, targets: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        return model.loss_sum(inputs, targets, document_ids=documents).total

    total = accumulate(
        loss_sum, batch, rows_at_once=rows_at_once, precision=precision, device=device, divisor=batch.num_targets
    )
    return total / batch.num_targets


def require_targets(num_targets: float) -> None:
    """Refuse a step with nothing to learn from.

    Raises:
        DataError: there are no targets.
    """
    if num_targets == 0:
        raise DataError("a batch has nothing to predict: all its documents are empty")


def accumulate(
    loss_sum: LossOf,
    batch: Batch,
    *,
    rows_at_once: int,
    precision: Precision,
    device: str,
    divisor: float,
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward,
    pass_of: Callable[[bool], contextlib.AbstractContextManager] = lambda is_last: contextlib.nullcontext(),
) -> float:
    """Add the gradients of the batch's sum of losses over `divisor`; return that sum in nats.

    Args:
        loss_sum: from inputs, targets and document ids to the sum of losses.
        backward: takes the scaled loss of a micro-batch.
        pass_of: the context of a micro-batch's passes, told whether it is the batch's last.
    """
    total = torch.zeros((), dtype=torch.float32, device=device)
    for rows in micro_batches(batch, rows_at_once):
        inputs, targets, documents = on_device(batch, rows, device)
        with pass_of(rows.stop >= len(batch.inputs)):
            with precision.autocast():
                summed = loss_sum(inputs, targets, documents)
            backward(precision.scaler.scale(summed / divisor))
        total += summed.detach()
    return total.item()


def clip_gradients(parameters: Iterable[torch.nn.Parameter], clip_norm: float) -> float:
    """Scale gradients down to the global norm `clip_norm` (0: never); return the norm before."""
    return torch.nn.utils.clip_grad_norm_(parameters, clip_norm if clip_norm > 0 else math.inf).item()
