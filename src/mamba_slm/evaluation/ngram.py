"""A Witten-Bell interpolated trigram over tokens: what counting alone reaches on the same tokens.

    P3(w | u v) = (c(u v w) + T(u v) P2(w | v)) / (c(u v) + T(u v))
    P2(w | v)   = (c(v w)   + T(v)   P1(w))     / (c(v)   + T(v))
    P1(w)       = (c(w)     + T      / V)       / (N      + T)

c counts occurrences, T the different tokens that followed a context, N all tokens, V the vocabulary. A context that
was never seen passes its whole mass down. Contexts do not cross documents; what lies before a document is its own
first token (`bos`) again. Every order sums to 1 over the vocabulary.

Source: Witten and Bell, "The zero-frequency problem", IEEE Trans. Information Theory 37 (1991); interpolated form as
in Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 2.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError, DataError

MAX_VOCAB_SIZE = 2**21  # three tokens are packed into one 64-bit key
ORDER = 3


@dataclass(frozen=True)
class Counts:
    """Counts of one order. A gram is packed into a uint64, oldest token first; its context lacks the last token."""

    grams: np.ndarray
    """[k] uint64, sorted, different."""
    occurrences: np.ndarray
    """[k] int64, of each gram."""
    contexts: np.ndarray
    """[m] uint64, sorted, different."""
    context_occurrences: np.ndarray
    """[m] int64: how often something followed the context."""
    context_types: np.ndarray
    """[m] int64: how many different tokens followed it."""

    @classmethod
    def of(cls, keys: np.ndarray, vocab_size: int) -> Counts:
        """Count `keys` [n] uint64."""
        grams, occurrences = np.unique(keys, return_counts=True)
        contexts, first, types = np.unique(grams // np.uint64(vocab_size), return_index=True, return_counts=True)
        return cls(grams, occurrences, contexts, np.add.reduceat(occurrences, first), types)

    def gram_occurrences(self, keys: np.ndarray) -> np.ndarray:
        """How often each of `keys` [n] occurred; float64."""
        return look_up(self.grams, self.occurrences, keys)

    def of_contexts(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Occurrences and types of each context in `keys` [n]; float64."""
        return (
            look_up(self.contexts, self.context_occurrences, keys),
            look_up(self.contexts, self.context_types, keys),
        )


def look_up(sorted_keys: np.ndarray, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """values[i] where sorted_keys[i] == key, else 0; float64 [n]."""
    places = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.where(sorted_keys[places] == keys, values[places], 0).astype(np.float64)


class WittenBellTrigram:
    """See the module docstring. Build with `fit`."""

    def __init__(self, orders: tuple[Counts, ...], vocab_size: int):
        self._orders = orders  # unigrams, bigrams, trigrams
        self.vocab_size = vocab_size

    @property
    def num_training_tokens(self) -> int:
        """Tokens counted, the first of each document left out."""
        return int(self._orders[0].occurrences.sum())

    @classmethod
    def fit(cls, documents: Iterable[np.ndarray], *, vocab_size: int) -> WittenBellTrigram:
        """Count documents.

        Args:
            documents: token ids, each document [bos, ..., eos]; the first token is context only and never counted.
            vocab_size: ids lie in [0, vocab_size).

        Raises:
            ConfigError: the vocabulary is too large to pack three tokens into 64 bits.
            DataError: there is nothing to count.

        Cost: three sorts of one 64-bit key per token; about 24 bytes per token at the peak.
        """
        if not 1 <= vocab_size <= MAX_VOCAB_SIZE:
            raise ConfigError(f"a trigram needs a vocabulary of 1 to {MAX_VOCAB_SIZE} tokens, got {vocab_size}")
        pieces = [packed_grams(document, vocab_size) for document in documents if len(document) > 1]
        if not pieces:
            raise DataError("there are no training tokens to count", hint="give the trigram the training shards")
        keys = np.concatenate(pieces)
        orders = tuple(Counts.of(lower_order(keys, order, vocab_size), vocab_size) for order in range(1, ORDER + 1))
        return cls(orders, vocab_size)

    def log2_probabilities(self, document: np.ndarray) -> np.ndarray:
        """log2 P3 of every token of [bos, ..., eos] except the first; float64 [len(document) - 1]."""
        return np.log2(self._probabilities(packed_grams(document, self.vocab_size)))

    def next_token_probabilities(self, before_last: int, last: int) -> np.ndarray:
        """P3(w | before_last last) for every w; float64 [v]. Sums to 1."""
        context = np.uint64(before_last * self.vocab_size + last) * np.uint64(self.vocab_size)
        return self._probabilities(context + np.arange(self.vocab_size, dtype=np.uint64))

    def _probabilities(self, keys: np.ndarray) -> np.ndarray:
        probabilities = np.full(len(keys), 1.0 / self.vocab_size)
        for order, counts in enumerate(self._orders, start=1):
            grams = lower_order(keys, order, self.vocab_size)
            occurrences, types = counts.of_contexts(grams // np.uint64(self.vocab_size))
            total = occurrences + types
            interpolated = (counts.gram_occurrences(grams) + types * probabilities) / np.maximum(total, 1)
            probabilities = np.where(total > 0, interpolated, probabilities)
        return probabilities


def packed_grams(document: np.ndarray, vocab_size: int) -> np.ndarray:
    """The trigram that ends at each token but the first, as uint64 [len(document) - 1]."""
    tokens = np.concatenate([document[:1], document]).astype(np.uint64)
    v = np.uint64(vocab_size)
    return (tokens[:-2] * v + tokens[1:-1]) * v + tokens[2:]


def lower_order(trigrams: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """The last `order` tokens of packed trigrams."""
    return trigrams % np.uint64(vocab_size**order) if order < ORDER else trigrams
