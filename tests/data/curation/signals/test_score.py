"""The score is the documented formula, rises with what is good, and tells good text from bad."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.signals.definition import COLUMN, NAMES
from mamba_slm.data.curation.signals.native import measure_texts
from mamba_slm.data.curation.signals.ratios import quantity
from mamba_slm.data.curation.signals.score import PARTS, TOP_SCORE, Part, score, score_steps
from mamba_slm.data.curation.verdict import KINDS

SHARED = Path(__file__).parents[4].parent / "shared" / "data"


def row(**signals):
    matrix = np.zeros((1, len(NAMES)), np.int64)
    for name, value in signals.items():
        matrix[0, COLUMN[name]] = value
    return matrix


def test_every_kind_has_a_score_between_0_and_1():
    matrix = measure_texts(["", "x" * 5000, "The cat and the dog went home. " * 50, "\n" * 100, "7 " * 999])
    for kind in KINDS:
        steps = score_steps(matrix, PARTS[kind])
        assert steps.dtype == np.int64 and (steps >= 0).all() and (steps <= TOP_SCORE).all()
        assert np.array_equal(score(matrix, PARTS[kind]), steps / TOP_SCORE)


@given(st.integers(0, 500), st.integers(0, 40), st.integers(0, 40))
def test_the_score_is_the_weighted_mean_of_its_parts(words, duplicate, lines):
    parts = (
        Part(quantity="words", worst=50, best=250, weight=2),
        Part(quantity="duplicate_line_share", worst=0.5, best=0, weight=3),
    )
    matrix = row(words=words, duplicate_lines=min(duplicate, lines), lines=lines)
    share = Fraction(min(duplicate, lines), lines) if lines else Fraction(0)
    expected = 2 * min(max(Fraction(words - 50, 200), 0), 1) + 3 * max(1 - 2 * share, 0)
    assert abs(score(matrix, parts)[0] - float(expected / 5)) <= 1 / TOP_SCORE


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_rises_with_every_part_from_worst_to_best(kind):
    for part in PARTS[kind]:
        scores = [step_of(value, part) for value in np.linspace(part.worst, part.best, 11)]
        assert scores == sorted(scores) and scores[0] == 0 and scores[-1] == TOP_SCORE


def step_of(value, part):
    """The score of a made-up text where only this quantity counts."""
    signal = Part(quantity="words", worst=part.worst * 10**6, best=part.best * 10**6)
    return score_steps(row(words=round(value * 10**6)), (signal,))[0]


def test_a_part_that_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="unknown signal 'wrds'"):
        Part(quantity="wrds", worst=0, best=1)
    with pytest.raises(ConfigError, match="must differ"):
        Part(quantity="words", worst=1, best=1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
def test_a_book_scores_above_the_same_words_as_a_list():
    text = (SHARED / "corpora" / "gutenberg" / "en_Frankenstein_84-0.txt").read_text(encoding="utf-8-sig")[
        20_000:40_000
    ]
    menu = "\n".join(word.strip(".,;!?").title() for word in text.split())
    good, bad = score(measure_texts([text, menu]), PARTS["web"])
    assert good > 0.8 and good > bad + 0.15


def test_quantities_of_every_part_exist():
    matrix = measure_texts(["the cat"])
    assert all(quantity(matrix, part.quantity).shape == (1,) for parts in PARTS.values() for part in parts)
