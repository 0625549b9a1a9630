"""Fit the curves of `curation/language/calibration.py`: logistic regression on texts that the weights never saw.

Around a knot's expected curve (slope sqrt(words) in the units of the fit, intercept 0) the data decide where there are
data; where the sides are so far apart that none lie between them, the expected curve stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from _language_training import FOREIGN_LOGIT, Example, balanced
from numpy.typing import NDArray

from mamba_slm.data.curation.language.calibration import Calibration
from mamba_slm.data.curation.language.definition import MAX_WORD_SCORE, word_scorer

KNOTS = (3.0, 6.0, 12.0, 24.0, 48.0)
DECAY = 1e-5
"""Weight of a squared deviation from the expected curve, relative to its slope, against the mean loss of a text."""
NEWTON_STEPS = 60
DIGITS = 3


def evidence_of(examples: Sequence[Example], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """As `weigh_texts`, of words already found."""
    score = word_scorer(weights)
    rows = [
        (len(one.words), one.foreign_words, sum(map(score, one.words)) - MAX_WORD_SCORE * one.foreign_words)
        for one in examples
    ]
    return np.array(rows, np.int64).reshape(-1, 3)


def fit_curve(examples: Sequence[Example], weights: NDArray[np.int8], english_share: float) -> Calibration:
    """The curve of one kind of source, of whose texts such a share is expected to be English."""
    evidence = evidence_of(examples, weights)
    words = np.maximum(evidence[:, 0] + evidence[:, 1], 1)
    mean = evidence[:, 2] / (words * MAX_WORD_SCORE)
    hats = np.stack([np.interp(np.log2(words), np.log2(KNOTS), row) for row in np.eye(len(KNOTS))], axis=1)
    expected = np.concatenate([np.zeros(len(KNOTS)), FOREIGN_LOGIT * np.sqrt(KNOTS)])
    unit = np.concatenate([np.ones(len(KNOTS)), FOREIGN_LOGIT * np.sqrt(KNOTS)])
    design = np.concatenate([hats, hats * mean[:, None]], axis=1) * unit
    target = np.array([1.0 if one.is_english else 0.0 for one in examples])
    importance = balanced(examples, english_share)
    start = expected / unit
    found = start.copy()
    for _ in range(NEWTON_STEPS):
        share = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        gradient = design.T @ (importance * (share - target)) + DECAY * (found - start)
        curvature = (design * (importance * share * (1 - share))[:, None]).T @ design + DECAY * np.eye(len(found))
        change = np.linalg.solve(curvature, gradient)
        found -= change * min(1, 1 / np.abs(change).max())
    found *= unit
    return Calibration(
        english_share=english_share,
        words=KNOTS,
        intercepts=tuple(np.round(found[: len(KNOTS)], DIGITS).tolist()),
        slopes=tuple(np.round(found[len(KNOTS) :], DIGITS).tolist()),
    )


def reliability(confidence: NDArray[np.float64], is_english: NDArray[np.bool_], importance: NDArray[np.float64]) -> str:
    """How often texts of each range of confidence are English."""
    borders = (0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0001)
    rows = []
    for low, high in pairwise(borders):
        inside = (confidence >= low) & (confidence < high)
        total = importance[inside].sum()
        said, true = (
            (importance * what)[inside].sum() / total if total else float("nan") for what in (confidence, is_english)
        )
        rows.append(f"  {low:4.2f} to {min(high, 1):4.2f}: said {said:.3f}, English {true:.3f}, {inside.sum():,} texts")
    return "\n".join(rows)
