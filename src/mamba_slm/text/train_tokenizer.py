"""Train a byte-level BPE tokenizer on a stream of texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.text.tokenizer import SPECIAL_TOKENS, Tokenizer

SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)
TEXTS_PER_BATCH = 64
LONGEST_TRAINING_PIECE = 128  # merging is quadratic in a piece's length: a megabyte of one letter would take hours

PRE_TOKENIZERS = {
    # Llama 3's pattern. llama.cpp and everything built on it knows it (as "llama-bpe"), so that a GGUF export
    # tokenizes as we do; of the patterns it knows this one needs the fewest bits for Python and English alike.
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    # The same with a line end and the indentation after it in one piece: `):` and eight spaces may be one token.
    # Fewer tokens for source code; no GGUF runtime knows it.
    "code": (
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+(?:\r?\n[ \t]*)*"
        r"|\s*[\r\n][ \t]*|\s+(?!\S)|\s+"
    ),
}
"""How text is cut before merging, by name. Each cuts any text into pieces that together are the text."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 4096, pre_tokenizer: str = "llama3") -> Tokenizer:
    """Train a tokenizer with exactly `vocab_size` tokens: 4 special, 256 bytes, the rest merges.

    All 256 bytes are in the alphabet, nothing is normalised: `decode(encode(text)) == text` for every text.

    Args:
        texts: training texts, read once.
        vocab_size: number of tokens, at least 260.
        pre_tokenizer: a name in `PRE_TOKENIZERS`: "llama3" (known to GGUF runtimes) or "code" (fewer tokens for code).

    Raises:
        ConfigError: `vocab_size` is below 260.
        DataError: the texts are empty, or too few to fill the vocabulary; names the size that they reach.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ConfigError(
            f"vocab_size must be at least {SMALLEST_VOCABULARY} (256 bytes and {len(SPECIAL_TOKENS)} special tokens), "
            f"got {vocab_size}",
            hint="4096 suits a few megabytes of text",
        )
    if pre_tokenizer not in PRE_TOKENIZERS:
        raise UnknownNameError("pre-tokenizer", pre_tokenizer, PRE_TOKENIZERS)
    # Llama 3's rule: a whole piece that is in the vocabulary is one token, whatever the order of the merges says.
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(PRE_TOKENIZERS[pre_tokenizer]), "isolated")
    shorten = pre_tokenizers.Split(Regex(rf"[\s\S]{{1,{LONGEST_TRAINING_PIECE}}}"), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, shorten, to_bytes])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    num_bytes = 0

    def batches() -> Iterator[list[str]]:
        nonlocal num_bytes
        remaining = iter(texts)
        while batch := list(itertools.islice(remaining, TEXTS_PER_BATCH)):
            num_bytes += sum(len(text.encode()) for text in batch)
            yield batch

    backend.train_from_iterator(batches(), trainer)
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    begin = SPECIAL_TOKENS[0]  # other programs that read the file begin a text as our data does
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, 0)]
    )
    if num_bytes == 0:
        raise DataError("there is no text to train a tokenizer on", hint="check the path and the pattern of the input")
    reached = backend.get_vocab_size(with_added_tokens=True)
    if reached < vocab_size:
        raise DataError(
            f"{num_bytes} bytes of text are too few for a vocabulary of {vocab_size}: they reach {reached}",
            hint=f"use --vocab-size {reached}, or more text",
        )
    return Tokenizer(backend)


def measure_bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """UTF-8 bytes of the texts divided by their tokens (without begin and end tokens); higher is better.

    Raises:
        DataError: the texts are empty.
    """
    num_bytes = num_tokens = 0
    remaining = iter(texts)
    while batch := list(itertools.islice(remaining, TEXTS_PER_BATCH)):
        num_bytes += sum(len(text.encode()) for text in batch)
        num_tokens += sum(map(len, tokenizer.encode_batch(batch)))
    if num_tokens == 0:
        raise DataError("there is no text to measure the tokenizer on")
    return num_bytes / num_tokens
