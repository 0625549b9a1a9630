"""A quality score in [0, 1] per kind of source: a weighted mean of how near signals come to good text.

    part  = clamp((value - worst) / (best - worst), 0, 1), rounded to steps of 1 / 65,535
    score = sum(weight * part) / sum(weight), in whole steps of 1 / 65,535

Every part rises or falls with its signal and nothing else, so the score does too. It is an integer, equal on every
machine and in both implementations, and the bin of the histograms that find the quantile (`curation/quantile.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.signals.ratios import QUANTITIES, quantity
from mamba_slm.data.curation.verdict import Kind

TOP_SCORE = 65_535


@dataclass(frozen=True, kw_only=True)
class Part:
    """One signal's share of the score."""

    quantity: str
    """A signal or a ratio."""

    worst: float
    """Value that gives 0, as every worse one."""

    best: float
    """Value that gives 1, as every better one; below `worst` where less is better."""

    weight: int = 1
    """Share in the mean."""

    def __post_init__(self):
        if self.quantity not in QUANTITIES:
            raise ConfigError(f"unknown signal {self.quantity!r} in a score")
        if self.worst == self.best or self.weight < 1:
            raise ConfigError(f"{self} cannot be scored: worst and best must differ, weight be at least 1")


PROSE = (
    Part(quantity="words", worst=30, best=400),
    Part(quantity="stop_word_share", worst=0.02, best=0.15, weight=3),
    Part(quantity="distinct_stop_words", worst=1, best=7),
    Part(quantity="alphabetic_word_share", worst=0.7, best=0.97, weight=2),
    Part(quantity="upper_character_share", worst=0.3, best=0.06),
    Part(quantity="digit_character_share", worst=0.2, best=0.02),
    Part(quantity="link_character_share", worst=0.1, best=0),
    Part(quantity="run_character_share", worst=0.05, best=0),
    Part(quantity="duplicate_line_character_share", worst=0.1, best=0),
    Part(quantity="top_2gram_share", worst=0.15, best=0.02),
    Part(quantity="duplicate_5gram_share", worst=0.15, best=0, weight=3),
)

PARTS: dict[Kind, tuple[Part, ...]] = {
    "web": (
        *PROSE,
        Part(quantity="terminal_line_share", worst=0.1, best=0.9, weight=3),
        Part(quantity="short_line_share", worst=0.6, best=0.05, weight=2),
        Part(quantity="bullet_line_share", worst=0.5, best=0),
        Part(quantity="policy_line_share", worst=0.1, best=0),
    ),
    "books": PROSE,
    "docs": (
        Part(quantity="words", worst=30, best=400),
        Part(quantity="sentences", worst=0, best=10, weight=2),
        Part(quantity="stop_word_share", worst=0, best=0.12, weight=3),
        Part(quantity="alphabetic_word_share", worst=0.4, best=0.9, weight=2),
        Part(quantity="digit_character_share", worst=0.4, best=0.04),
        Part(quantity="link_character_share", worst=0.5, best=0.05),
        Part(quantity="duplicate_line_character_share", worst=0.3, best=0.02),
        Part(quantity="duplicate_5gram_share", worst=0.4, best=0.02, weight=3),
    ),
    "code": (
        Part(quantity="words", worst=10, best=200),
        Part(quantity="alphabetic_character_share", worst=0.25, best=0.7, weight=2),
        Part(quantity="digit_character_share", worst=0.3, best=0.05),
        Part(quantity="mean_line_length", worst=100, best=50),
        Part(quantity="longest_line", worst=1000, best=120),
        Part(quantity="run_character_share", worst=0.3, best=0.02),
        Part(quantity="duplicate_line_character_share", worst=0.6, best=0.1),
        Part(quantity="duplicate_5gram_share", worst=0.6, best=0.1, weight=2),
    ),
    "chat": (
        Part(quantity="words", worst=5, best=100),
        Part(quantity="sentences", worst=0, best=3, weight=2),
        Part(quantity="stop_word_share", worst=0, best=0.15, weight=2),
        Part(quantity="alphabetic_word_share", worst=0.5, best=0.95, weight=2),
        Part(quantity="upper_character_share", worst=0.4, best=0.06),
        Part(quantity="link_character_share", worst=0.3, best=0),
        Part(quantity="run_character_share", worst=0.1, best=0),
        Part(quantity="duplicate_5gram_share", worst=0.4, best=0.02, weight=2),
    ),
}


def score_steps(matrix: np.ndarray, parts: tuple[Part, ...]) -> np.ndarray:
    """The score of every text in steps of 1 / 65,535: [n] int64 in [0, 65535].

    Args:
        matrix: [n len(NAMES)] int64, from `measure_texts`.
        parts: for example `PARTS["web"]`.
    """
    total = np.zeros(len(matrix), np.int64)
    for part in parts:
        near = (quantity(matrix, part.quantity) - part.worst) / (part.best - part.worst)
        total += part.weight * np.floor(np.clip(near, 0, 1) * TOP_SCORE + 0.5).astype(np.int64)
    weights = sum(part.weight for part in parts)
    return (2 * total + weights) // (2 * weights)


def score(matrix: np.ndarray, parts: tuple[Part, ...]) -> np.ndarray:
    """The score of every text in [0, 1]: `score_steps` divided by 65,535."""
    return score_steps(matrix, parts) / TOP_SCORE
