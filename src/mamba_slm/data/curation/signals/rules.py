"""Limits on signals, per kind of source: the published ones for web pages; what destroys other kinds is changed there.

The name of a field is the rule: `min_` or `max_`, then a signal or a ratio. None leaves the rule out. They are judged
in the order of the fields, and the first that fails is the reason.

Published limits: Gopher, arXiv:2112.11446, A1.1; C4, arXiv:1910.10683, 2.2; FineWeb, arXiv:2406.17557, 3.6; StarCoder,
arXiv:2305.06161, 3.1. Words are white-space words: with punctuation marks counted as words, as spaCy does, Gopher's
share of words with a letter alone removes every Python Enhancement Proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.signals.ratios import quantity
from mamba_slm.data.curation.verdict import KINDS, Kind, Removed


@dataclass(frozen=True, kw_only=True)
class RulesConfig:
    """Limits, both ends allowed. The defaults are those of web pages."""

    min_characters: int | None = 100
    """Code points."""

    max_characters: int | None = 1_000_000
    """Code points; longer ones can be cut first (`lengths.py`)."""

    min_words: int | None = 50
    """Gopher."""

    min_mean_word_length: float | None = 3
    """Gopher; in characters."""

    max_mean_word_length: float | None = 10
    """Gopher; in characters."""

    min_alphabetic_word_share: float | None = 0.7
    """Words with a letter. Gopher's 0.8 removes a quarter of WikiText, whose commas stand alone."""

    min_alphabetic_character_share: float | None = None
    """StarCoder; letters among the characters of words."""

    min_distinct_stop_words: int | None = 2
    """Gopher; of the, be, to, of, and, that, have, with."""

    min_sentences: int | None = 3
    """C4."""

    max_hash_marks_per_word: float | None = 0.1
    """Gopher."""

    max_ellipses_per_word: float | None = 0.1
    """Gopher."""

    max_curly_bracket_share: float | None = 0.02
    """C4 drops a page for one bracket; this is the share of code."""

    max_digit_character_share: float | None = 0.3
    """Tables of numbers."""

    max_upper_character_share: float | None = 0.4
    """Letters in upper case among letters: shouting and part numbers."""

    max_run_character_share: float | None = 0.1
    """Runs of five and more equal characters."""

    max_link_character_share: float | None = 0.3
    """Lists of links."""

    max_bullet_line_share: float | None = 0.9
    """Gopher."""

    max_ellipsis_line_share: float | None = 0.3
    """Gopher."""

    min_sentences_per_line: float | None = 0.12
    """FineWeb's limit for lines that end a sentence; counted so, an article that is one line of many sentences and a
    last heading stays."""

    max_short_line_share: float | None = 0.67
    """FineWeb."""

    max_newlines_per_word: float | None = 0.3
    """FineWeb; lists have many."""

    max_lorem_ipsum_lines: int | None = 0
    """C4; filler text."""

    max_javascript_line_share: float | None = 0.3
    """C4 removes such lines; a page that consists of them is a notice."""

    max_policy_line_share: float | None = 0.3
    """The same for notices about cookies and terms of use."""

    max_mean_line_length: float | None = None
    """StarCoder; in characters. Machine-made code has long lines."""

    max_longest_line: int | None = None
    """StarCoder; in characters."""

    max_duplicate_line_share: float | None = 0.3
    """Gopher."""

    max_duplicate_line_character_share: float | None = 0.1
    """FineWeb; Gopher allows 0.2."""

    max_duplicate_paragraph_share: float | None = 0.3
    """Gopher."""

    max_duplicate_paragraph_character_share: float | None = 0.2
    """Gopher."""

    max_top_2gram_share: float | None = 0.20
    """Gopher."""

    max_top_3gram_share: float | None = 0.18
    """Gopher."""

    max_top_4gram_share: float | None = 0.16
    """Gopher."""

    max_duplicate_5gram_share: float | None = 0.15
    """Gopher."""

    max_duplicate_6gram_share: float | None = 0.14
    """Gopher."""

    max_duplicate_7gram_share: float | None = 0.13
    """Gopher."""

    max_duplicate_8gram_share: float | None = 0.12
    """Gopher."""

    max_duplicate_9gram_share: float | None = 0.11
    """Gopher."""

    max_duplicate_10gram_share: float | None = 0.10
    """Gopher."""

    def __post_init__(self):
        limits = self.limits
        for name, limit in limits.items():
            side, _, what = name.partition("_")
            if limit < 0:
                raise ConfigError(f"{name} must not be negative, got {limit}", hint="null leaves the rule out")
            if side == "min" and limit > limits.get(f"max_{what}", limit):
                raise ConfigError(f"min_{what} {limit} is above max_{what} {limits[f'max_{what}']}")

    @property
    def limits(self) -> dict[str, float]:
        """The rules that are on, in the order of judgement."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


WEB = RulesConfig()

BOOKS = replace(
    WEB,  # lines are wrapped or verses, and chapters have headings
    max_newlines_per_word=None,
    min_sentences_per_line=None,
    max_short_line_share=None,
    max_curly_bracket_share=None,
)

DOCS = replace(
    WEB,  # marked up: headings, lists, tables, examples of code; a page may be one screen
    min_words=10,
    max_mean_word_length=12,
    min_alphabetic_word_share=0.5,
    min_distinct_stop_words=None,
    min_sentences=None,
    max_hash_marks_per_word=0.5,
    max_ellipses_per_word=0.2,
    max_curly_bracket_share=None,
    max_upper_character_share=0.5,
    max_run_character_share=0.3,
    max_link_character_share=0.6,
    min_sentences_per_line=None,
    max_short_line_share=None,
    max_newlines_per_word=None,
    max_lorem_ipsum_lines=None,
    max_javascript_line_share=None,
    max_policy_line_share=None,
    max_duplicate_line_share=0.7,
    max_duplicate_line_character_share=0.3,
    max_top_2gram_share=0.3,
    max_top_3gram_share=0.3,
    max_top_4gram_share=0.3,
    max_duplicate_5gram_share=0.40,
    max_duplicate_6gram_share=0.38,
    max_duplicate_7gram_share=0.36,
    max_duplicate_8gram_share=0.34,
    max_duplicate_9gram_share=0.32,
    max_duplicate_10gram_share=0.30,
)

CODE = replace(
    RulesConfig(**dict.fromkeys(WEB.limits)),  # nothing that was made for prose
    min_characters=WEB.min_characters,
    max_characters=WEB.max_characters,
    min_alphabetic_character_share=0.25,
    max_mean_line_length=100,
    max_longest_line=1000,
)

CHAT = replace(
    WEB,  # an answer may be one line, a table or a program, and often quotes the question
    min_words=10,
    min_alphabetic_word_share=0.5,
    min_distinct_stop_words=None,
    min_sentences=None,
    max_hash_marks_per_word=0.3,
    max_curly_bracket_share=None,
    min_sentences_per_line=None,
    max_short_line_share=None,
    max_newlines_per_word=None,
    max_javascript_line_share=None,
    max_duplicate_line_character_share=0.2,
    max_top_2gram_share=0.4,
    max_top_3gram_share=0.4,
    max_top_4gram_share=0.4,
    max_duplicate_5gram_share=0.50,
    max_duplicate_6gram_share=0.48,
    max_duplicate_7gram_share=0.46,
    max_duplicate_8gram_share=0.44,
    max_duplicate_9gram_share=0.42,
    max_duplicate_10gram_share=0.40,
)

RULES: dict[Kind, RulesConfig] = {"web": WEB, "books": BOOKS, "code": CODE, "docs": DOCS, "chat": CHAT}


def rules_of(kind: str) -> RulesConfig:
    """The limits for a kind of source.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind not in RULES:
        raise UnknownNameError("kind of source", kind, KINDS)
    return RULES[kind]


def broken_rules(matrix: np.ndarray, rules: RulesConfig) -> np.ndarray:
    """[n rules] bool: which texts break which of `rules.limits`, for statistics of every rule alone."""
    broken = np.zeros((len(matrix), len(rules.limits)), bool)
    for column, (name, limit) in enumerate(rules.limits.items()):
        side, _, what = name.partition("_")
        values = quantity(matrix, what)
        broken[:, column] = values < limit if side == "min" else values > limit
    return broken


def judge(matrix: np.ndarray, rules: RulesConfig) -> list[Removed | None]:
    """For every text the first rule that it breaks, with value and limit, or None.

    Args:
        matrix: [n len(NAMES)] int64, from `measure_texts`.
        rules: the limits.
    """
    broken = broken_rules(matrix, rules)
    return [reason(matrix[i : i + 1], rules, broken[i]) if broken[i].any() else None for i in range(len(matrix))]


def reason(row: np.ndarray, rules: RulesConfig, broken: Sequence[bool] | np.ndarray) -> Removed:
    """The first of the broken rules."""
    name, limit = list(rules.limits.items())[int(np.argmax(broken))]
    side, _, what = name.partition("_")
    value = quantity(row, what)[0].item()
    return Removed(
        rule=f"signals.{name}", value=value, threshold=limit, detail="at least" if side == "min" else "at most"
    )
