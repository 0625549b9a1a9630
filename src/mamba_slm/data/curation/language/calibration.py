"""From evidence to the probability that a text is English, per kind of source.

    logit = intercept(n) + slope(n) · score / (n · MAX_WORD_SCORE)        n words, linear between knots in log2(n)

`calibration.json` holds the knots, fitted by `benchmarks/language_table.py` on texts that the weights never saw, as if
the share of English among them were the one it names. A text without any word to judge has nothing for or against it:
in kinds of source whose texts may be code alone that is no reason to doubt, elsewhere it is.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamba_slm.data.curation.language.definition import MAX_WORD_SCORE
from mamba_slm.data.curation.verdict import Kind

FILE = Path(__file__).parent / "calibration.json"
WITHOUT_WORDS: dict[Kind, float] = {"web": 0.5, "books": 0.5, "code": 1.0, "docs": 1.0, "chat": 1.0}
"""Confidence of a text that has no word to judge."""
MAX_LOGIT = 30.0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The curve of one kind of source."""

    english_share: float
    """The share of English among texts before they are seen, which the knots take into account."""

    words: tuple[float, ...]
    """Knots: numbers of words, ascending; outside them the nearest one counts."""

    slopes: tuple[float, ...]
    """Logits per mean score of a word, in [-1, 1], at each knot."""

    intercepts: tuple[float, ...]
    """Logits of a mean score of 0, at each knot."""

    def confidence(self, evidence: np.ndarray, *, without_words: float) -> np.ndarray:
        """Probability of English: [n] float64.

        Args:
            evidence: [n 3] int64, from `weigh_texts`.
            without_words: the answer where nothing was judged.
        """
        words = evidence[:, 0] + evidence[:, 1]
        counted = np.maximum(words, 1)
        place, knots = np.log2(counted), np.log2(self.words)
        mean = evidence[:, 2] / (counted * MAX_WORD_SCORE)
        logit = np.interp(place, knots, self.intercepts) + np.interp(place, knots, self.slopes) * mean
        found = 1 / (1 + np.exp(-np.clip(logit, -MAX_LOGIT, MAX_LOGIT)))
        return np.where(words == 0, without_words, found)


@functools.cache
def calibrations() -> dict[Kind, Calibration]:
    """The curves that come with the package, by kind of source. There is none for code, which is not judged."""
    found = json.loads(FILE.read_text(encoding="utf-8"))["kinds"]
    return {
        kind: Calibration(
            english_share=curve["english_share"],
            **{name: tuple(curve[name]) for name in ("words", "slopes", "intercepts")},
        )
        for kind, curve in found.items()
    }
