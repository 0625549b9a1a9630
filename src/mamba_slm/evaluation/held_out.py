"""The table of a report card: the model and what it must beat, on the same held-out documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.document import Document
from mamba_slm.data.shards import TokenShards
from mamba_slm.evaluation.baselines import Row, compressor_rows, row, total_bytes, trigram_row
from mamba_slm.evaluation.bits_per_byte import measure_bits_per_byte
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer

MODEL = "model"


def choose_documents(documents: Iterable[Document], *, max_bytes: int) -> list[Document]:
    """Whole documents up to `max_bytes` of text, chosen by the hash of their ids and returned in the order of the ids.

    In hash order, each document is taken if it still fits. The choice depends on ids and sizes only, so every model and
    baseline of a corpus is measured on the same bytes. If not even one fits, the first in hash order is taken alone.
    """
    in_hash_order = sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest())
    chosen: list[Document] = []
    used = 0
    for document in in_hash_order:
        num_bytes = len(document.text.encode("utf-8"))
        if used + num_bytes <= max_bytes:
            chosen.append(document)
            used += num_bytes
    return sorted(chosen or in_hash_order[:1], key=lambda document: document.id)


def encode_held_out(documents: Sequence[Document], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Token ids [bos, ..., eos] of each document, as token shards hold them."""
    encoded = tokenizer.encode_batch([document.text for document in documents])
    return [np.array([tokenizer.bos_id, *ids, tokenizer.eos_id], dtype=np.uint32) for ids in encoded]


def evaluate_held_out(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    training_shards: Iterable[TokenShards],
    *,
    context_tokens: int | None = None,
    stride_tokens: int | None = None,
) -> list[Row]:
    """Rows of `evaluation.json`: the model, then gzip, xz, xz together and the trigram.

    Args:
        documents: held out from training; see `choose_documents`.
        training_shards: what the model was trained on, encoded with `tokenizer`; the trigram counts all of it.
        context_tokens, stride_tokens: see `measure_bits_per_byte`.

    Raises:
        ConfigError: the tokenizer does not belong to the model.
        DataError: no held-out text or no training tokens.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's vocabulary only {model.config.vocab_size}",
            hint="use the tokenizer.json of the model's folder",
        )
    texts = [document.text for document in documents]
    num_bytes = total_bytes(texts)
    ids = encode_held_out(documents, tokenizer)
    measured = measure_bits_per_byte(
        model, ids, num_bytes=num_bytes, context_tokens=context_tokens, stride_tokens=stride_tokens
    )
    training_documents = (
        shards.document(number) for shards in training_shards for number in range(shards.num_documents)
    )
    return [
        row(MODEL, measured.bits, num_bytes, measured.how),
        *compressor_rows(texts),
        trigram_row(ids, training_documents=training_documents, vocab_size=tokenizer.vocab_size, num_bytes=num_bytes),
    ]
