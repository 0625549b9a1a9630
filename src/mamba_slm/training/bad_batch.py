"""What was in a batch: the documents of a step that went wrong, row by row, so that one can look at them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from mamba_slm.data.loader import Batch
from mamba_slm.data.packing import NO_TARGET
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.gradients import LossOf

EXCERPT_CHARACTERS = 160


def documents_in(batch: Batch, tokenizer: Tokenizer | None) -> list[dict[str, Any]]:
    """One entry per piece of a document: row, first position, number of tokens, and how it begins.

    Without a tokenizer `begins` holds the first token ids instead of text.
    """
    entries = []
    for row, (tokens, documents) in enumerate(zip(batch.inputs, batch.document_ids, strict=True)):
        borders = [0, *(np.flatnonzero(np.diff(documents)) + 1).tolist(), len(tokens)]
        for start, end in itertools.pairwise(borders):
            piece = tokens[start:end].tolist()
            begins = tokenizer.decode(piece[:EXCERPT_CHARACTERS])[:EXCERPT_CHARACTERS] if tokenizer else piece[:16]
            entries.append({"row": row, "position": start, "tokens": end - start, "begins": begins})
    return entries


@torch.no_grad()
def row_losses(loss_of: LossOf, batch: Batch, device: str) -> list[float]:
    """Mean loss of every row by itself, in nats: tells which row made a batch's loss infinite."""
    losses = []
    for row in range(len(batch.inputs)):
        inputs, targets, documents = (
            torch.as_tensor(array[row : row + 1]).to(device)
            for array in (batch.inputs, batch.targets, batch.document_ids)
        )
        losses.append(float(loss_of(inputs, targets, documents)) / max(int((targets != NO_TARGET).sum()), 1))
    return losses


def describe(entries: list[dict[str, Any]], *, most: int = 3) -> str:
    """The first few documents in one line."""
    shown = [f"row {entry['row']}: {entry['begins']!r}"[:90] for entry in entries[:most]]
    rest = f" and {len(entries) - most} more" if len(entries) > most else ""
    return "; ".join(shown) + rest
