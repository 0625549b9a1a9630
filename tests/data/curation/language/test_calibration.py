"""Confidence is a probability that grows with the evidence, per kind of source."""

import numpy as np
import pytest

from mamba_slm.data.curation.language.calibration import WITHOUT_WORDS, Calibration, calibrations
from mamba_slm.data.curation.language.definition import MAX_WORD_SCORE
from mamba_slm.data.curation.verdict import KINDS

CURVE = Calibration(english_share=0.5, words=(4.0, 16.0), slopes=(8.0, 16.0), intercepts=(0.0, -2.0))


def confidence(words, foreign_words, score, curve=CURVE):
    return curve.confidence(np.array([[words, foreign_words, score]]), without_words=0.25)[0]


def test_the_logit_is_linear_in_the_mean_score_and_between_knots_in_the_logarithm_of_words():
    assert confidence(4, 0, 0) == 0.5
    assert confidence(4, 0, 4 * 32) == pytest.approx(1 / (1 + np.exp(-1)))
    assert confidence(8, 0, 8 * 32) == pytest.approx(1 / (1 + np.exp(-(12 / 8 - 1))))
    assert confidence(1, 0, 32) == confidence(4, 0, 4 * 32), "below the first knot it counts"
    assert confidence(1000, 0, 1000 * 32) == confidence(16, 0, 16 * 32), "above the last knot it counts"


def test_words_in_other_scripts_are_words():
    assert confidence(2, 2, -4 * 32) == confidence(4, 0, -4 * 32)


def test_nothing_to_judge_has_an_answer_of_its_own():
    assert confidence(0, 0, 0) == 0.25


def test_every_kind_but_code_has_a_curve_that_rises():
    assert set(calibrations()) == set(KINDS) - {"code"}
    assert set(WITHOUT_WORDS) == set(KINDS)
    for curve in calibrations().values():
        assert min(curve.slopes) > 0
        for words in (1, 3, 10, 100, 10_000):
            scores = np.linspace(-words * MAX_WORD_SCORE, words * MAX_WORD_SCORE, 41).astype(np.int64)
            evidence = np.stack([np.full(41, words), np.zeros(41, np.int64), scores], axis=1)
            found = curve.confidence(evidence, without_words=0.5)
            assert (np.diff(found) >= 0).all() and found[0] < 0.1 and found[-1] > 0.9
