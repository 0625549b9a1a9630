"""The table of a report card: the model and what it must beat, on the same held-out documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
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
        if used + document.num_bytes <= max_bytes:
            chosen.append(document)
            used += document.num_bytes
    return sorted(chosen or in_hash_order[:1], key=lambda document: document.id)


def evaluate_held_out(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    training_shards: Sequence[TokenShards],
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
        ConfigError: model, tokenizer and shards do not belong together.
        DataError: no held-out text or no training tokens.
    """
    check_belongs_together(model, tokenizer, training_shards)
    texts = [document.text for document in documents]
    num_bytes = total_bytes(texts)
    ids = encode_batch(tokenizer, list(documents))
    measured = measure_bits_per_byte(
        model, ids, num_bytes=num_bytes, context_tokens=context_tokens, stride_tokens=stride_tokens
    )
    training_documents = (shards.document(i) for shards in training_shards for i in range(shards.num_documents))
    return [
        row(MODEL, measured.bits, num_bytes, measured.how),
        *compressor_rows(texts),
        trigram_row(ids, training_documents=training_documents, vocab_size=tokenizer.vocab_size, num_bytes=num_bytes),
    ]


def check_belongs_together(model: LanguageModel, tokenizer: Tokenizer, training_shards: Sequence[TokenShards]) -> None:
    """Raise ConfigError unless model, tokenizer and shards speak of the same tokens."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's vocabulary only {model.config.vocab_size}",
            hint="use the tokenizer.json of the model's folder",
        )
    for shards in training_shards:
        if shards.tokenizer_fingerprint != tokenizer.fingerprint:
            raise ConfigError(
                f"the token shards in {shards.folder} were written with another tokenizer",
                hint="encode the training text again: mamba-slm data tokenize",
            )
