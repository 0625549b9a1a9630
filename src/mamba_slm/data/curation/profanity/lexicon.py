"""The word lists of 25 languages as one set of phrases to look for.

A file of `words/` is one language. Under `[function]` stand its most frequent words, by which it is recognised; under
`[mild]`, `[strong]` and `[severe]` what is counted. Entries are separated by commas and may be phrases;
`idiot{,s,ic}` are three. All are compared as `phrases/definition.py` says, without case and accents.

What belongs where. Severe: slurs against groups of people, sexual violence, abuse of children. Strong: obscenities,
pornography, the coarsest insults. Mild: vulgar words that novels and newspapers print. Neutral words for people,
bodies and medicine are in no list. The lists are the project's own.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.phrases.definition import Phrase, words_of
from mamba_slm.data.curation.phrases.phrase_set import PhraseSet

FOLDER = Path(__file__).with_name("words")
LANGUAGES = tuple(
    "ar cs da de en eo es fa fi fil fr hi hu it ja ko nl no pl pt ru sv th tr zh".split()  # noqa: SIM905
)
TIERS = ("function", "mild", "strong", "severe")
NONE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """Phrases with what they are in each language."""

    languages: tuple[str, ...]

    senses: dict[Phrase, tuple[int, ...]]
    """What a phrase is: numbers of a language times four, plus those of a tier."""

    phrases: PhraseSet

    classes: NDArray[np.int16]
    """[phrases most] the senses of each phrase of `phrases`, filled up with `NONE`."""


@functools.cache
def lexicon_of(languages: tuple[str, ...]) -> Lexicon:
    """The lists of some languages; read once per process."""
    senses: dict[Phrase, tuple[int, ...]] = {}
    for number, language in enumerate(languages):
        own: dict[Phrase, int] = {}
        for tier, entries in entries_of(language).items():
            for phrase in entries:
                own[phrase] = max(own.get(phrase, 0), TIERS.index(tier))
        for phrase, tier in own.items():
            senses[phrase] = (*senses.get(phrase, ()), len(TIERS) * number + tier)
    phrases, in_order = PhraseSet.of(senses)
    classes = np.full((len(in_order), max(map(len, senses.values()), default=1)), NONE, np.int16)
    for row, phrase in zip(classes, in_order, strict=True):
        row[: len(senses[phrase])] = senses[phrase]
    return Lexicon(languages=languages, senses=senses, phrases=phrases, classes=classes)


def entries_of(language: str) -> dict[str, set[Phrase]]:
    """The phrases of one language by tier."""
    found: dict[str, set[Phrase]] = {tier: set() for tier in TIERS}
    tier = ""
    for line in (FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            tier = line.strip("[]")
        elif line and not line.startswith("#"):
            found[tier].update(tuple(words_of(text)) for text in expanded(line))
    return found


def expanded(line: str) -> list[str]:
    """The entries of a line, with every choice that braces give.

    >>> expanded("idiot{,s}, {kick,bad} ass")
    ['idiot', 'idiots', 'kick ass', 'bad ass']
    """
    entries = re.split(r",\s*(?![^{]*\})", line)
    return [text for entry in entries for text in choices(entry)]


def choices(entry: str) -> Sequence[str]:
    """As `expanded`, of one entry."""
    pieces = [piece.split(",") if i % 2 else [piece] for i, piece in enumerate(re.split(r"\{([^}]*)\}", entry))]
    return ["".join(chosen) for chosen in itertools.product(*pieces)]
