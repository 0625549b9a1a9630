"""Fit the table of the English gate: logistic regression on the mean score of the words of short texts.

    logit(text) = sqrt(min(n, 64)) · mean over its n words of clip(sum of the weights of the word's features)

English and not English weigh the same in all, every other language the same among languages, every English source the
same among sources. All sums run in one fixed order, so that the same texts give the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.language.definition import MAX_WORD_SCORE, judged, slots

MAX_COUNTED_WORDS = 64
FOREIGN_LOGIT = 4.0
"""What a word in another script takes from a text of one word: `MAX_WORD_SCORE` in the units of the fit."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One text to fit: its language or English source, and its judged words."""

    group: str
    is_english: bool
    words: tuple[str, ...]
    foreign_words: int


def example(group: str, is_english: bool, found: Sequence[str | int]) -> Example:
    """From what `judged` finds."""
    words = tuple(one for one in found if isinstance(one, str))
    return Example(
        group=group, is_english=is_english, words=words, foreign_words=sum(one for one in found if isinstance(one, int))
    )


def snippets(group: str, is_english: bool, text: str, generator: np.random.Generator) -> list[Example]:
    """A text cut into pieces of 3 to 60 words, short ones as likely as long ones on a scale of ratios."""
    found = list(judged(text))
    pieces = []
    while found:
        size = int(np.exp(generator.uniform(np.log(3), np.log(60))))
        pieces.append(example(group, is_english, found[:size]))
        found = found[size:]
    return pieces


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the table is fitted."""

    table_bits: int = 17
    """2^bits weights."""

    steps: int = 60
    """Of Adam on all texts at once."""

    learning_rate: float = 0.02
    decay: float = 1e-6
    """Factor of half the sum of squared weights."""

    scale: float = MAX_WORD_SCORE / FOREIGN_LOGIT
    """Steps of an int8 weight per unit of logit."""


def balanced(examples: Sequence[Example], english_share: float = 0.5) -> NDArray[np.float64]:
    """The weight of every example; they sum to 1, those in English to `english_share`."""
    groups = sorted({(one.is_english, one.group) for one in examples})
    place = {group: i for i, group in enumerate(groups)}
    member = np.array([place[one.is_english, one.group] for one in examples])
    sides = [sum(is_english == side for is_english, _ in groups) for side in (False, True)]
    size = np.bincount(member)
    shares = (1 - english_share, english_share)
    return np.array([shares[side := groups[m][0]] / (sides[side] * size[m]) for m in member])


def fit(examples: Sequence[Example], config: FitConfig, say=lambda text: None) -> NDArray[np.int8]:
    """The table of [2^table_bits] int8 weights."""
    examples = [one for one in examples if one.words or one.foreign_words]
    number: dict[str, int] = {}
    tokens = np.array([number.setdefault(word, len(number)) for one in examples for word in one.words], np.int64)
    text_of = np.repeat(np.arange(len(examples)), [len(one.words) for one in examples])
    features = [slots(word, config.table_bits) for word in number]
    slot = np.array([one for found in features for one in found], np.int64)
    word_of = np.repeat(np.arange(len(number)), [len(found) for found in features])
    used, slot = np.unique(slot, return_inverse=True)
    say(
        f"{len(examples):,} texts, {len(tokens):,} words, {len(number):,} distinct,"
        f" {len(slot):,} features in {len(used):,} slots"
    )

    foreign = np.array([one.foreign_words for one in examples], np.float64)
    count = np.bincount(text_of, minlength=len(examples)) + foreign
    factor = np.sqrt(np.minimum(count, MAX_COUNTED_WORDS)) / count
    sign = np.array([1.0 if one.is_english else -1.0 for one in examples])
    importance = balanced(examples)
    weights, first, second = np.zeros((3, len(used)))
    for step in range(1, config.steps + 1):
        raw = np.bincount(word_of, weights[slot], minlength=len(number))
        clipped = np.clip(raw, -FOREIGN_LOGIT, FOREIGN_LOGIT)
        total = np.bincount(text_of, clipped[tokens], minlength=len(examples)) - FOREIGN_LOGIT * foreign
        logit = factor * total
        wrong = 1 / (1 + np.exp(np.clip(sign * logit, -500, 500)))
        slope = -importance * sign * wrong * factor
        by_word = np.bincount(tokens, slope[text_of], minlength=len(number))
        # what is clipped may come back, never go further
        by_word = np.where((np.abs(raw) >= FOREIGN_LOGIT) & (np.sign(raw) != np.sign(by_word)), 0, by_word)
        gradient = np.bincount(slot, by_word[word_of], minlength=len(used)) + config.decay * weights
        first += 0.1 * (gradient - first)
        second += 0.01 * (gradient * gradient - second)
        rate = config.learning_rate * min(1, 2 * (1 - step / (config.steps + 1)))
        weights -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-10)
        if step % 20 == 0 or step == 1:
            loss = -(importance * np.log(np.maximum(1 - wrong, 1e-300))).sum()
            say(f"step {step}: loss {loss:.5f}, largest weight {np.abs(weights).max():.2f}")
    table = np.zeros(1 << config.table_bits, np.int8)
    table[used] = np.clip(np.rint(weights * config.scale), -127, 127)
    return table
