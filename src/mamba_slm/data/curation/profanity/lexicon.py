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
from pathlib import Path

from mamba_slm.data.curation.phrases.classified import Classified
from mamba_slm.data.curation.phrases.definition import Phrase
from mamba_slm.data.curation.phrases.lists import read_list

FOLDER = Path(__file__).with_name("words")
LANGUAGES = (
    *("ar", "cs", "da", "de", "en", "eo", "es", "fa", "fi", "fil", "fr", "hi", "hu"),
    *("it", "ja", "ko", "nl", "no", "pl", "pt", "ru", "sv", "th", "tr", "zh"),
)
TIERS = ("function", "mild", "strong", "severe")


@functools.cache
def lexicon_of(languages: tuple[str, ...]) -> Classified:
    """The lists of some languages, read once per process; a class is the number of a language times 4 plus its tier's.

    In one language a phrase is of the highest tier that it has.
    """
    classes_of: dict[Phrase, tuple[int, ...]] = {}
    for number, language in enumerate(languages):
        tier_of = {phrase: tier for tier, name in enumerate(TIERS) for phrase in entries_of(language)[name]}
        for phrase, tier in tier_of.items():
            classes_of[phrase] = (*classes_of.get(phrase, ()), len(TIERS) * number + tier)
    return Classified.of(classes_of, len(TIERS) * len(languages))


def entries_of(language: str) -> dict[str, set[Phrase]]:
    """The phrases of one language by tier."""
    return read_list(FOLDER / f"{language}.txt")
