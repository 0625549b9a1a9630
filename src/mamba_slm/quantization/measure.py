"""What a changed model says beside the original: KL, agreement of the most likely token, and perplexity.

Letters: t time, n compared positions, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, DataError
from mamba_slm.model.stack import LanguageModel

BATCH_TOKENS = 4096
PIECE_TOKENS = 512
"""Positions whose logits exist at one time."""
MOST_BYTES = 2 << 30
"""Of the original's predictions that are kept."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A model beside the original, over the same tokens."""

    num_tokens: int
    """Positions compared; each predicts a token that is there."""

    mean_kl: float
    """Mean of KL(original || model) in nats."""

    argmax_agreement: float
    """Share of positions, in [0, 1], with the same most likely next token."""

    perplexity_before: float
    """Of the original."""

    perplexity: float

    loss_change_error: float
    """Standard error of the mean difference of the loss, paired by token, in nats."""

    @property
    def perplexity_change(self) -> float:
        """After / before - 1."""
        return self.perplexity / self.perplexity_before - 1

    def to_dict(self) -> dict[str, Any]:
        """For JSON; numbers that are not finite become null."""
        found = {**asdict(self), "perplexity_change": self.perplexity_change}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}


class Reference:
    """What the original predicts after each token of some rows, kept, so that many changed models need one pass of it.

    The last token of a row predicts nothing that is there and is not compared.
    """

    def __init__(self, model: LanguageModel, rows: Sequence[Tensor], *, most_bytes: int = MOST_BYTES):
        """Run the original.

        Args:
            rows: [t] int64 each, of any length up to the model's context; each begins with an empty state.
            most_bytes: float32 log-probabilities to keep; the rows beyond are left out.

        Raises:
            DataError: nothing to compare.
            CheckFailedError: the original's predictions are not finite.
        """
        most_tokens = max(1, most_bytes // (4 * model.config.vocab_size))
        self.rows: list[Tensor] = []
        self.num_tokens = 0
        for row in rows:
            if len(row) > 1 and (not self.rows or self.num_tokens + len(row) - 1 <= most_tokens):
                self.rows.append(row.to(torch.int64))
                self.num_tokens += len(row) - 1
        if not self.rows:
            raise DataError("there is no text to compare models on", hint="give more than a token with --text FILE")
        self.log_probabilities: list[Tensor] = []
        nats = []
        for logits, targets in predictions(model, self.rows):
            known = logits.log_softmax(dim=-1)
            self.log_probabilities.append(known)
            nats.append(F.nll_loss(known, targets, reduction="none").double())
        self.nats = torch.cat(nats)
        if not bool(self.nats.isfinite().all()):
            raise CheckFailedError(
                "the model's own predictions are not finite",
                hint="its weights are damaged or diverged in training; try an earlier checkpoint",
            )

    @property
    def perplexity(self) -> float:
        """Of the original."""
        return exponential(float(self.nats.mean()))

    def quality_of(self, model: LanguageModel) -> Quality:
        """A model with the same vocabulary beside the original."""
        agreeing, kl, nats = 0, 0.0, []
        for known, (logits, targets) in zip(self.log_probabilities, predictions(model, self.rows), strict=True):
            found = logits.log_softmax(dim=-1)
            agreeing += int((found.argmax(dim=-1) == known.argmax(dim=-1)).sum())
            kl += float((known.exp() * (known - found)).sum(dim=-1, dtype=torch.float64).sum())
            nats.append(F.nll_loss(found, targets, reduction="none").double())
        after = torch.cat(nats)
        difference = after - self.nats
        spread = float(difference.std()) if len(difference) > 1 else 0.0
        return Quality(
            num_tokens=self.num_tokens,
            mean_kl=kl / self.num_tokens,
            argmax_agreement=agreeing / self.num_tokens,
            perplexity_before=self.perplexity,
            perplexity=exponential(float(after.mean())),
            loss_change_error=spread / math.sqrt(self.num_tokens),
        )


def predictions(model: LanguageModel, rows: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits [n v] float32 and the tokens [n] that follow, on the CPU, in pieces that depend on the rows alone."""
    device = model.embedding.weight.device
    for batch in batches(rows):
        longest = max(map(len, batch)) - 1
        tokens = torch.stack([F.pad(row[:-1], (0, longest - len(row) + 1)) for row in batch])
        with torch.no_grad():
            # padding on the right cannot reach what stands before it, so no mask is needed
            hidden = model.hidden_states(tokens.to(device))
            real = torch.cat([hidden[number, : len(row) - 1] for number, row in enumerate(batch)])
            targets = torch.cat([row[1:] for row in batch])
            for start in range(0, len(real), PIECE_TOKENS):
                yield model.logits(real[start : start + PIECE_TOKENS]).cpu(), targets[start : start + PIECE_TOKENS]


def batches(rows: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Longest rows first, as many as fit into `BATCH_TOKENS` with padding, at least one."""
    batch: list[Tensor] = []
    for row in sorted(rows, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def exponential(nats: float) -> float:
    """exp; infinite where that is too large for a float or not a number."""
    return math.exp(nats) if nats < 700 else math.inf
