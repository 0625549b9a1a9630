"""What a token costs by its place in a text: whether a model still uses what stands far back, or loses its way.

Letters: b rows, t time, d width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import DataError
from mamba_slm.model.stack import LanguageModel

LOGIT_TOKENS = 256
"""Positions whose logits exist at once."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Positions [start, end) and the mean loss of the tokens predicted there."""

    start: int
    end: int
    loss: float
    """Nats per token."""
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(self.loss)


def borders(trained_tokens: int, context_tokens: int) -> list[int]:
    """Where stretches begin and end: quarters of the trained context, then multiples of half of it.

    >>> borders(64, 256)
    [0, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256]
    """
    quarters = [trained_tokens * part // 4 for part in range(5)]
    beyond = range(trained_tokens, context_tokens, max(1, trained_tokens // 2))
    return sorted({place for place in (*quarters, *beyond, context_tokens) if place <= context_tokens})


def long_rows(documents: Iterable[np.ndarray], *, context_tokens: int, max_rows: int) -> tuple[list[np.ndarray], str]:
    """Rows of context_tokens + 1 tokens, and in words what they are.

    Pieces of single documents where there are such long ones; else documents one after another, where what stands far
    back helps less.

    Raises:
        DataError: all documents together are shorter than one row.
    """
    all_documents = [np.asarray(document) for document in documents]
    size = context_tokens + 1
    whole = [
        document[start : start + size]
        for document in all_documents
        for start in range(0, len(document) - size + 1, size)
    ]
    if whole:
        return whole[:max_rows], f"{len(whole[:max_rows])} pieces of single documents"
    joined = np.concatenate(all_documents) if all_documents else np.zeros(0, np.int64)
    rows = [joined[start : start + size] for start in range(0, len(joined) - size + 1, size)][:max_rows]
    if not rows:
        raise DataError(
            f"the held-out text has {len(joined):,} tokens, and one row of {context_tokens:,} is longer",
            hint="give more text, or a larger --validation-share",
        )
    return rows, f"{len(rows)} rows of documents joined, since none has {context_tokens:,} tokens"


@torch.no_grad()
def loss_by_position(model: LanguageModel, rows: Sequence[np.ndarray], edges: Sequence[int]) -> list[Stretch]:
    """Mean loss between the edges, over all rows; each row is read once, from an empty state.

    Args:
        rows: token ids, one more than the last edge.
        edges: growing, from 0 to at most the model's context.
    """
    device = model.embedding.weight.device
    sums = torch.zeros(edges[-1], dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        for row in rows:
            tokens = torch.as_tensor(row.astype(np.int64), device=device)[None]
            sums += row_losses(model, tokens[:, : edges[-1]], tokens[0, 1 : edges[-1] + 1]).double().cpu()
    finally:
        model.train(was_training)
    return [
        Stretch(
            start=start,
            end=end,
            loss=float(sums[start:end].sum()) / (len(rows) * (end - start)),
            num_tokens=len(rows) * (end - start),
        )
        for start, end in itertools.pairwise(edges)
    ]


def row_losses(model: LanguageModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """[t] losses in nats of inputs [1 t] and targets [t]."""
    hidden = model.hidden_states(inputs)[0]  # [t d]
    pieces = zip(hidden.split(LOGIT_TOKENS), targets.split(LOGIT_TOKENS), strict=True)
    return torch.cat([F.cross_entropy(model.logits(h).float(), goal, reduction="none") for h, goal in pieces])
