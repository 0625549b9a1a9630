"""Promises of the numbers about generated texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.evaluation.generations import reference_scores, variety

CATS = "The cat sat on the mat and looked at the dog."
words = st.lists(st.sampled_from("abc"), min_size=1, max_size=12).map(" ".join)


def test_a_text_that_is_its_reference_has_the_highest_scores():
    scores = reference_scores([CATS], [[CATS]])
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert scores.rouge == {"rouge1": 1, "rouge2": 1, "rougeL": 1}
    assert "tok:13a" in scores.bleu_signature


def test_scores_are_those_of_the_formulas():
    scores = reference_scores(["the cat sat"], [["the cat ran away"]])
    assert scores.rouge["rouge1"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert scores.rouge["rouge2"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert 0 < scores.chrf < 100


def test_several_references_can_only_help_and_may_differ_in_number():
    alone = reference_scores([CATS, "a dog"], [["a bird sang"], ["a dog barked"]])
    more = reference_scores([CATS, "a dog"], [["a bird sang", CATS], ["a dog barked"]])
    assert more.bleu > alone.bleu
    assert more.rouge["rougeL"] > alone.rouge["rougeL"]


def test_texts_without_references_are_refused():
    for texts, references in (([], []), (["a"], []), (["a", "b"], [["a"], []])):
        with pytest.raises(DataError):
            reference_scores(texts, references)
    with pytest.raises(DataError, match="no texts"):
        variety([])


@given(st.lists(words, min_size=1, max_size=5))
def test_variety_counts_ngrams(texts):
    found = variety(texts)
    for size in (1, 2):
        grams = [tuple(t.split()[i : i + size]) for t in texts for i in range(len(t.split()) - size + 1)]
        assert found.distinct[size] == (len(set(grams)) / len(grams) if grams else 0)
        assert 0 <= found.repetition[size] <= 1
    assert variety(texts * 2).distinct[1] == pytest.approx(found.distinct[1] / 2)
    assert variety(texts * 2).repetition == pytest.approx(found.repetition)
