"""Loss on held-out rows, the same ones every time, and what a history of such losses says about stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from mamba_slm.core.errors import DataError
from mamba_slm.data.loader import Batch
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.gradients import micro_batches, on_device
from mamba_slm.training.out_of_memory import is_out_of_memory
from mamba_slm.training.precision import Precision


def token_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 bytes of every token, special tokens 0: [v]."""
    special = set(tokenizer.special_ids)
    return np.array(
        [0 if token in special else len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)],
        dtype=np.int64,
    )


@torch.no_grad()
def validate(
    model: LanguageModel,
    batches: Iterable[Batch],
    *,
    rows_at_once: int,
    precision: Precision,
    device: str,
    bytes_per_token: np.ndarray | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    say_smaller: Callable[[str], None] | None = None,
) -> tuple[float, float | None] | None:
    """Mean loss in nats, and bits per byte, over all targets of the batches.

    Bits per byte counts the cost of the end of a document and no byte for it. Rows begin without what came before them,
    so this is slightly above what evaluation of whole documents gives.

    Args:
        bytes_per_token: from `token_lengths`; None gives no bits per byte.
        is_stopped: asked between batches; when true the result is None.
        say_smaller: half the rows are taken where memory runs out, and this is told; None lets the error go on.

    Raises:
        DataError: there are no targets.
    """
    was_training = model.training
    model.eval()
    loss, targets_seen, bytes_seen = 0.0, 0, 0
    try:
        for batch in batches:
            if is_stopped():
                return None
            while (sums := sums_of(model, batch, rows_at_once, precision, device, say_smaller)) is None:
                rows_at_once //= 2
            loss, targets_seen = loss + sums[0], targets_seen + sums[1]
            if bytes_per_token is not None:
                bytes_seen += int(bytes_per_token[batch.targets[batch.targets >= 0]].sum())
    finally:
        model.train(was_training)
    if targets_seen == 0:
        raise DataError("the validation data has nothing to predict", hint="give more of it, or --validation-share 0")
    return loss / targets_seen, loss / math.log(2) / bytes_seen if bytes_seen else None


def sums_of(
    model: LanguageModel,
    batch: Batch,
    rows_at_once: int,
    precision: Precision,
    device: str,
    say_smaller: Callable[[str], None] | None,
) -> tuple[float, int] | None:
    """Summed loss in nats and targets of a batch; None when memory ran out, fewer rows are left to try and wanted."""
    loss, targets_seen = 0.0, 0
    try:
        for rows in micro_batches(batch, rows_at_once):
            inputs, targets, documents = on_device(batch, rows, device)
            with precision.autocast():
                summed = model.loss_sum(inputs, targets, document_ids=documents)
            loss += float(summed.total)
            targets_seen += summed.num_targets
    except (RuntimeError, MemoryError) as error:
        if say_smaller is None or rows_at_once == 1 or not is_out_of_memory(error):
            raise
        why = (str(error).strip() or "no memory").splitlines()[0][:160]
        say_smaller(f"validation: {why}; rows at once: {rows_at_once // 2} from here on")
        return None
    return loss, targets_seen


def validations_since_best(losses: Sequence[float]) -> int:
    """How many validations in a row have not beaten the best before them; NaN never beats anything.

    >>> validations_since_best([3.0, 2.0, 2.1, 2.0])
    2
    """
    best, since = math.inf, 0
    for loss in losses:
        since = 0 if loss < best else since + 1
        best = min(best, loss) if not math.isnan(loss) else best
    return since
