"""Promises of the trigram: it is normalised, and it is the textbook formula."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.evaluation.ngram import MAX_VOCAB_SIZE, WittenBellTrigram

VOCAB_SIZE = 7
documents_of_tokens = st.lists(
    st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=0, max_size=15).map(
        lambda ids: np.array([0, *ids, 0], np.uint16)
    ),
    min_size=1,
    max_size=6,
)
quick = settings(max_examples=60, deadline=None)


class Textbook:
    """The formulas of the module docstring with dictionaries, one token at a time."""

    def __init__(self, documents):
        self.following = defaultdict(Counter)
        for document in documents:
            tokens = [int(document[0]), *map(int, document)]
            for end in range(2, len(tokens)):
                for size in range(3):
                    self.following[tuple(tokens[end - size : end])][tokens[end]] += 1

    def probability(self, token, context):
        lower = self.probability(token, context[1:]) if context else 1 / VOCAB_SIZE
        after = self.following.get(tuple(context))
        if after is None:
            return lower
        return (after[token] + len(after) * lower) / (after.total() + len(after))


@quick
@given(documents_of_tokens, st.integers(0, VOCAB_SIZE - 1), st.integers(0, VOCAB_SIZE - 1))
def test_probabilities_sum_to_one_after_any_context_seen_or_not(documents, before_last, last):
    model = WittenBellTrigram.fit(documents, vocab_size=VOCAB_SIZE)
    probabilities = model.next_token_probabilities(before_last, last)
    assert probabilities.shape == (VOCAB_SIZE,)
    assert abs(probabilities.sum() - 1) < 1e-12
    assert (probabilities > 0).all()


@quick
@given(documents_of_tokens, documents_of_tokens)
def test_it_is_the_textbook_formula(train, held_out):
    model, textbook = WittenBellTrigram.fit(train, vocab_size=VOCAB_SIZE), Textbook(train)
    for document in held_out:
        tokens = [int(document[0]), *map(int, document)]
        expected = [textbook.probability(tokens[i], tokens[i - 2 : i]) for i in range(2, len(tokens))]
        np.testing.assert_allclose(model.log2_probabilities(document), np.log2(expected), rtol=1e-12)


def test_the_largest_vocabulary_still_fits_the_packed_keys():
    top = MAX_VOCAB_SIZE - 1
    document = np.array([top, top, top - 1, top], dtype=np.uint32)
    model = WittenBellTrigram.fit([document], vocab_size=MAX_VOCAB_SIZE)
    # After [top, top] came top and top - 1 once each: two types, so half of the mass goes down to the bigram.
    scores = model.log2_probabilities(document)
    assert np.isfinite(scores).all()
    assert abs(model.next_token_probabilities(top, top).sum() - 1) < 1e-9
    assert 2 ** scores[0] > 0.25


def test_a_vocabulary_too_large_and_an_empty_corpus_are_errors():
    with pytest.raises(ConfigError, match="vocabulary"):
        WittenBellTrigram.fit([np.array([0, 0])], vocab_size=MAX_VOCAB_SIZE + 1)
    with pytest.raises(DataError, match="no training tokens"):
        WittenBellTrigram.fit([np.array([0])], vocab_size=10)
