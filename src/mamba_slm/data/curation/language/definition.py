"""Which words of a text are judged, and the evidence in them: the definition, which `gate.cpp` equals to the last bit.

Examples of code say nothing about the language around them: fenced blocks and `inline code` are left out, and so is
every token with anything but letters inside (paths, options, calls, tags, links, numbers). What is left are words, each
judged alone by its 3- and 4-grams and as a whole, so that the evidence does not depend on the order of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mamba_slm.data.curation.language.characters import APOSTROPHE, FOREIGN, every_folding

FENCE = re.compile(r"^[ \t]*+```++[^`\n]*+$", re.MULTILINE)
INLINE_CODE = re.compile(r"(?<!`)`++[^`\n]++`++")
BEFORE, AFTER = "\"'([*_`", ".,;:!?\"')]*_`"
"""Punctuation that may stand around a word."""
WORDS = re.compile(r"['a-z\u00c0-\u036f\u1e00-\u1eff]+(?:-+['a-z\u00c0-\u036f\u1e00-\u1eff]+)*")

MIN_FOREIGN = 2
"""A lone letter of another script is a formula's."""
FOREIGN_PER_WORD = 4
"""Letters of another script that weigh like one word, rounded up."""
MAX_LETTERS = 30
"""What follows in a longer word is not looked at."""
MAX_WORD_SCORE = 256
"""No word counts for more, on either side; one in another script counts for that much against English."""

BITS = (1 << 64) - 1
GRAM_FACTOR, MIX_FACTOR, WORD_FACTOR = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one text shows."""

    words: int
    """Judged words in Latin script."""

    foreign_words: int
    """Letters of other scripts, in words of `FOREIGN_PER_WORD`."""

    score: int
    """Sum over the judged words; positive speaks for English."""


def without_code(text: str) -> str:
    """The text without fenced blocks and inline code. A fence that nothing closes is none.

    >>> without_code("Use `ls`:\\n```sh\\nls -l\\n```\\nDone")
    'Use  :\\n\\nDone'
    """
    if "`" not in text:
        return text
    fences = [match.span() for match in FENCE.finditer(text)]
    borders = [
        0,
        *(place for pair in zip(fences[::2], fences[1::2], strict=False) for place in (pair[0][0], pair[1][1])),
    ]
    kept = [text[start:end] for start, end in pairwise([*borders, len(text)])][::2]
    return "".join(INLINE_CODE.sub(" ", piece) for piece in kept)


def judged(text: str) -> Iterator[str | int]:
    """The judged words of a text, folded, and for each token in another script its number of words.

    >>> list(judged("Don't run **tar -xf** on naïve-looking files (see /etc), Боже!"))
    ["don't", 'run', 'tar', 'on', 'naïve', 'looking', 'files', 'see', 1]
    """
    for token in without_code(text).translate(every_folding()).split():
        if FOREIGN in token:
            letters = token.count(FOREIGN)
            if letters >= MIN_FOREIGN:
                yield -(-letters // FOREIGN_PER_WORD)
            continue
        core = token.lstrip(BEFORE).rstrip(AFTER)
        if token[0] != "-" and WORDS.fullmatch(core):
            for part in core.split("-"):
                if word := part.strip(APOSTROPHE):
                    yield word


def slots(word: str, table_bits: int) -> list[int]:
    """Where the features of a word stand in a table of 2^`table_bits` weights: 3-grams, 4-grams, the word."""
    letters = [ord(letter) for letter in f" {word[:MAX_LETTERS]} "]
    whole = 0
    found = []
    for size in (3, 4):
        for start in range(len(letters) - size + 1):
            key = sum(letter << 16 * place for place, letter in enumerate(letters[start : start + size]))
            key = key * GRAM_FACTOR & BITS
            key = (key ^ key >> 32) * MIX_FACTOR & BITS
            found.append(key >> 64 - table_bits)
            if size == 3:
                whole += key
    return [*found, (whole * WORD_FACTOR & BITS) >> 64 - table_bits]


def word_scorer(weights: np.ndarray) -> Callable[[str], int]:
    """The score of a word by a table of [2^bits] int8 weights; remembers short words."""
    table, table_bits = weights.tolist(), len(weights).bit_length() - 1
    known: dict[str, int] = {}

    def score(word: str) -> int:
        found = known.get(word)
        if found is None:
            found = sum(table[slot] for slot in slots(word, table_bits))
            found = max(-MAX_WORD_SCORE, min(MAX_WORD_SCORE, found))
            if len(known) < 1 << 20:
                known[word] = found
        return found

    return score


def weigh(text: str, score: Callable[[str], int]) -> Evidence:
    """The evidence of one text."""
    words = foreign_words = total = 0
    for found in judged(text):
        if isinstance(found, int):
            foreign_words += found
        else:
            words += 1
            total += score(found)
    return Evidence(words=words, foreign_words=foreign_words, score=total - MAX_WORD_SCORE * foreign_words)
