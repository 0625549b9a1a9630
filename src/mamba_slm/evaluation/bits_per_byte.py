"""Bits per byte of a model on whole documents: the same question a compressor answers.

What is scored. A document is [bos, its tokens, eos]. bos is context only; every other token, eos included, is scored
exactly once. The bits of all documents are added and divided by the UTF-8 bytes of their texts, so the number does not
depend on the tokenizer, and a document pays for its own end as it does in a compressed file.

How long documents are read. The model sees windows of `context_tokens` that begin every `stride_tokens`, each with an
empty state; attention and state-space layers never reach outside a window. A window scores only what the window before
it did not, so a token has at least context_tokens - stride_tokens tokens before it, or its document from the beginning.
With context 8 and stride 4, a document of 13 scored tokens t1 ... t13 (t0 = bos) is read as

    window      reads           scores
    1           t0  ... t7      t1  ... t8
    2           t4  ... t11     t9  ... t12
    3           t8  ... t12     t13

A shorter stride gives more context and costs more: context_tokens / stride_tokens passes over a long document.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError
from mamba_slm.model.stack import LanguageModel

IGNORED_TARGET = -100
BATCH_TOKENS = 8192  # inputs per forward pass; bounds the memory, larger ones are no faster


@dataclass(frozen=True, kw_only=True)
class BitsPerByte:
    """A measurement with what is needed to repeat it."""

    bits: float
    """Sum of -log2 p over every scored token."""
    num_bytes: int
    """UTF-8 bytes of the documents' texts."""
    num_tokens: int
    """Scored tokens: everything but bos."""
    num_documents: int
    context_tokens: int
    stride_tokens: int
    seconds: float

    @property
    def bits_per_byte(self) -> float:
        """The result; lower is better."""
        return self.bits / self.num_bytes

    @property
    def loss(self) -> float:
        """Mean cross-entropy per scored token in nats, as training prints it."""
        return self.bits * math.log(2) / self.num_tokens

    @property
    def how(self) -> str:
        """The protocol in one line."""
        return (
            f"{self.num_documents} whole documents, {self.num_tokens:,} tokens each scored once (end of document "
            f"included), windows of {self.context_tokens:,} tokens every {self.stride_tokens:,}"
        )


@dataclass(frozen=True)
class Window:
    """One pass over a part of a document: inputs [start, end), of whose targets those from `scored_from` on count."""

    document: int
    start: int
    end: int
    scored_from: int
    """Index of the first input whose successor is scored."""


def windows_of(num_tokens: int, *, document: int, context_tokens: int, stride_tokens: int) -> Iterator[Window]:
    """Cut a document of `num_tokens` (bos and eos included) so that every token but the first is scored once."""
    num_inputs = num_tokens - 1
    scored = 0
    start = 0
    while scored < num_inputs:
        end = min(start + context_tokens, num_inputs)
        yield Window(document, start, end, scored)
        scored = end
        start += stride_tokens


def measure_bits_per_byte(
    model: LanguageModel,
    documents: Sequence[np.ndarray | Sequence[int]],
    *,
    num_bytes: int,
    context_tokens: int | None = None,
    stride_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> BitsPerByte:
    """Score documents as the module docstring says.

    Args:
        model: on any device; its weights and dtype stay as they are.
        documents: token ids [bos, ..., eos] of each.
        num_bytes: UTF-8 bytes of all documents' texts.
        context_tokens: length of a window; None is the model's context. Give the length the model was trained with.
        stride_tokens: None is three quarters of `context_tokens`: a third more work than without overlap; on the small
            models it was measured with, a shorter stride gained nothing more.
        batch_tokens: windows of similar length are read together up to so many tokens; does not change the result.

    Raises:
        ConfigError: a context longer than the model's, a stride outside [1, context_tokens], or a token outside the
            vocabulary.
        DataError: nothing to score.
        CheckFailedError: the model's probabilities are not finite.
    """
    context_tokens = model.config.max_context_tokens if context_tokens is None else context_tokens
    stride_tokens = context_tokens - context_tokens // 4 if stride_tokens is None else stride_tokens
    check_window(context_tokens, stride_tokens, max_context_tokens=model.config.max_context_tokens)
    ids = [torch.as_tensor(np.asarray(document, dtype=np.int64)) for document in documents]
    num_tokens = sum(max(0, len(document) - 1) for document in ids)
    if num_tokens == 0 or num_bytes <= 0:
        raise DataError("there is no held-out text to measure", hint="give more text, or hold out a larger share of it")
    largest = max(int(document.max()) for document in ids if len(document))
    if largest >= model.config.vocab_size:
        raise ConfigError(
            f"the documents hold token {largest}, but the model's vocabulary has {model.config.vocab_size} tokens",
            hint="encode them with the tokenizer.json of the model's folder",
        )

    started = time.perf_counter()
    windows = [
        window
        for number, document in enumerate(ids)
        for window in windows_of(
            len(document), document=number, context_tokens=context_tokens, stride_tokens=stride_tokens
        )
    ]
    device = model.embedding.weight.device
    nats = 0.0
    scored = 0
    for batch in batches_of_similar_length(windows, batch_tokens=batch_tokens):
        inputs, targets = rows_of(batch, ids)
        with torch.no_grad():
            # Padding on the right cannot reach what stands before it, so no mask is needed.
            summed = model.loss_sum(inputs.to(device), targets.to(device))
        nats += float(summed.total)
        scored += summed.num_targets
    assert scored == num_tokens, f"scored {scored} of {num_tokens} tokens"
    if not math.isfinite(nats):
        raise CheckFailedError(
            "the model's loss on held-out text is not finite",
            hint="the weights are probably damaged or diverged in training; try an earlier checkpoint",
        )
    return BitsPerByte(
        bits=nats / math.log(2),
        num_bytes=num_bytes,
        num_tokens=num_tokens,
        num_documents=len(ids),
        context_tokens=context_tokens,
        stride_tokens=stride_tokens,
        seconds=time.perf_counter() - started,
    )


def check_window(context_tokens: int, stride_tokens: int, *, max_context_tokens: int) -> None:
    """Raise ConfigError for windows that the model cannot read or that would skip tokens."""
    if not 1 <= context_tokens <= max_context_tokens:
        raise ConfigError(
            f"windows of {context_tokens:,} tokens do not fit the model's context of {max_context_tokens:,} tokens",
            hint=f"use context_tokens between 1 and {max_context_tokens:,}",
        )
    if not 1 <= stride_tokens <= context_tokens:
        raise ConfigError(
            f"stride_tokens must lie in [1, {context_tokens}] (the context), got {stride_tokens}",
            hint="three quarters of the context is a good value; the context itself is fastest",
        )


def batches_of_similar_length(windows: Sequence[Window], *, batch_tokens: int) -> Iterator[list[Window]]:
    """Longest windows first, as many as fit into `batch_tokens` with padding, at least one."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: window.start - window.end):
        longest = batch[0].end - batch[0].start if batch else 0
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def rows_of(batch: Sequence[Window], ids: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [b t] int64 padded on the right with 0, and targets [b t] with -100 where nothing is scored."""
    longest = max(window.end - window.start for window in batch)
    inputs = torch.zeros(len(batch), longest, dtype=torch.int64)
    targets = torch.full((len(batch), longest), IGNORED_TARGET, dtype=torch.int64)
    for row, window in enumerate(batch):
        document = ids[window.document]
        inputs[row, : window.end - window.start] = document[window.start : window.end]
        targets[row, window.scored_from - window.start : window.end - window.start] = document[
            window.scored_from + 1 : window.end + 1
        ]
    return inputs, targets
