"""Perplexity of a model on texts: by token, by word, in bits per byte, and by the place in a long text.

Texts are read in windows that slide, as `bits_per_byte` says: every token is scored once, with at least
context - stride tokens before it. Token perplexity depends on the tokenizer; perplexity by word (between white space,
as WikiText's papers count) and bits per byte do not, so only these compare models of different vocabularies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
from mamba_slm.evaluation.bits_per_byte import BitsPerByte, measure_bits_per_byte
from mamba_slm.evaluation.long_context.by_position import Stretch, long_rows, loss_by_position
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer

STRETCHES = 8
MOST_ROWS = 64
"""Pieces of the text that are read to its context's end for the losses by position."""


@dataclass(frozen=True, kw_only=True)
class TextPerplexity:
    """A model on one text, and what is needed to repeat it."""

    text: str
    """As it was named."""

    sha256: str
    """Of the documents' texts, one after another."""

    num_words: int
    """Between white space."""

    measured: BitsPerByte
    positions: tuple[Stretch, ...]
    """Losses by the place in a window, each read from an empty state; empty where nothing was asked for."""

    position_rows: str
    """What those windows were."""

    @property
    def token_perplexity(self) -> float:
        """exp of the mean loss of a token."""
        return math.exp(self.measured.loss)

    @property
    def word_perplexity(self) -> float:
        """exp of the loss of a word: that of all tokens over the number of words."""
        return exponential(self.measured.bits * math.log(2) / self.num_words)

    @property
    def byte_perplexity(self) -> float:
        """2 to the bits per byte."""
        return 2**self.measured.bits_per_byte

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text,
            "sha256": self.sha256,
            "bits_per_byte": self.measured.bits_per_byte,
            "byte_perplexity": self.byte_perplexity,
            "token_perplexity": self.token_perplexity,
            "word_perplexity": self.word_perplexity if math.isfinite(self.word_perplexity) else None,
            "num_words": self.num_words,
            **asdict(self.measured),
            "how": self.measured.how,
            "positions": [asdict(one) | {"perplexity": one.perplexity} for one in self.positions],
            "position_rows": self.position_rows,
        }


def exponential(value: float) -> float:
    """exp, and infinity where it is too large to write.

    >>> exponential(1000.0)
    inf
    """
    return math.exp(value) if value < 700 else math.inf


def measure_perplexity(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    text: str,
    context_tokens: int | None = None,
    stride_tokens: int | None = None,
    by_position: bool = False,
) -> TextPerplexity:
    """Read documents and score every token once.

    Args:
        text: what to call them.
        context_tokens, stride_tokens: see `measure_bits_per_byte`.
        by_position: also read pieces of the text from an empty state, for losses by position.

    Raises:
        ConfigError: windows that do not fit the model.
        DataError: there is no text; or for losses by position, less than one window.
        CheckFailedError: the model's probabilities are not finite.
    """
    if not any(document.text.strip() for document in documents):
        raise DataError(f"{text} holds no text", hint="name a file with text, or a folder of them")
    ids = encode_batch(tokenizer, list(documents))
    measured = measure_bits_per_byte(
        model,
        ids,
        num_bytes=sum(document.num_bytes for document in documents),
        context_tokens=context_tokens,
        stride_tokens=stride_tokens,
    )
    positions, described = positions_of(model, ids, measured.context_tokens) if by_position else ([], "")
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.text.encode())
    return TextPerplexity(
        text=text,
        sha256=digest.hexdigest(),
        num_words=sum(len(document.text.split()) for document in documents),
        measured=measured,
        positions=tuple(positions),
        position_rows=described,
    )


def positions_of(model: LanguageModel, ids: Sequence[np.ndarray], context_tokens: int) -> tuple[list[Stretch], str]:
    """Mean losses in equal stretches of the context, and what was read for them."""
    rows, described = long_rows(ids, context_tokens=context_tokens, max_rows=MOST_ROWS)
    edges = sorted({context_tokens * part // STRETCHES for part in range(STRETCHES + 1)})
    return loss_by_position(model, rows, edges), described
