"""Shares and averages: quotients of two counts in float64, correctly rounded and so the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from mamba_slm.data.curation.signals.definition import COLUMN

RATIOS: dict[str, tuple[str, str]] = {
    "mean_word_length": ("word_characters", "words"),
    "word_character_share": ("word_characters", "characters"),
    "distinct_word_share": ("distinct_words", "words"),
    "alphabetic_word_share": ("alphabetic_words", "words"),
    "stop_word_share": ("stop_words", "words"),
    "alphabetic_character_share": ("alphabetic_characters", "word_characters"),
    "digit_character_share": ("digit_characters", "word_characters"),
    "upper_character_share": ("upper_characters", "alphabetic_characters"),
    "hash_marks_per_word": ("hash_marks", "words"),
    "ellipses_per_word": ("ellipses", "words"),
    "curly_bracket_share": ("curly_brackets", "word_characters"),
    "run_character_share": ("run_characters", "word_characters"),
    "link_character_share": ("link_characters", "word_characters"),
    "mean_line_length": ("line_characters", "lines"),
    "newlines_per_word": ("newlines", "words"),
    "duplicate_line_share": ("duplicate_lines", "lines"),
    "duplicate_line_character_share": ("duplicate_line_characters", "line_characters"),
    "bullet_line_share": ("bullet_lines", "lines"),
    "ellipsis_line_share": ("ellipsis_lines", "lines"),
    "terminal_line_share": ("terminal_lines", "lines"),
    "sentences_per_line": ("sentences", "lines"),
    "short_line_share": ("short_lines", "lines"),
    "few_word_line_share": ("few_word_lines", "lines"),
    "javascript_line_share": ("javascript_lines", "lines"),
    "policy_line_share": ("policy_lines", "lines"),
    "duplicate_paragraph_share": ("duplicate_paragraphs", "paragraphs"),
    "duplicate_paragraph_character_share": ("duplicate_paragraph_characters", "paragraph_characters"),
    **{f"top_{size}gram_share": (f"top_{size}gram_characters", "word_characters") for size in (2, 3, 4)},
    **{f"duplicate_{size}gram_share": (f"duplicate_{size}gram_characters", "word_characters") for size in range(5, 11)},
}
"""Name: (numerator, denominator), both fields of `Signals`."""

QUANTITIES = (*COLUMN, *RATIOS)
"""Everything a rule or a score may look at."""


def quantity(matrix: np.ndarray, name: str) -> np.ndarray:
    """A signal or a ratio of every text.

    Args:
        matrix: [n len(NAMES)] int64, from `measure_texts`.
        name: one of `QUANTITIES`.

    Returns:
        [n] int64 for a signal, float64 for a ratio; 0 where the denominator is 0.
    """
    if name in COLUMN:
        return matrix[:, COLUMN[name]]
    numerator, denominator = (matrix[:, COLUMN[part]] for part in RATIOS[name])
    quotient: Any = np.zeros(len(matrix))
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)
