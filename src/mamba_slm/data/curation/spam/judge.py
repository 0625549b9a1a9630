"""Documents that advertise.

In every text the longest phrases of `words.txt` are found from left to right (`phrases/definition.py`) and counted by
section. The first rule that is broken is the reason, if at least `min_phrases` were found of what it counts:

    spam.topic                   the most frequent topic, as a share of the words
    spam.topic_with_offers       the same, where offers have at least half the limit as their share
    spam.offers                  offers, as a share of the words
    spam.links                   links, as a share of the words

An article about casinos names them often, but does not say "sign up now": so a topic alone may have a larger share.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mamba_slm.data.curation.phrases.classified import Classified
from mamba_slm.data.curation.phrases.definition import Phrase, find_longest, words_of
from mamba_slm.data.curation.phrases.find import Words
from mamba_slm.data.curation.phrases.lists import read_list
from mamba_slm.data.curation.spam.config import SpamConfig
from mamba_slm.data.curation.verdict import Kind, Removed

FILE = Path(__file__).with_name("words.txt")


@functools.cache
def sections() -> tuple[str, ...]:
    """The names of all sections; the last two are offers and links, those before them topics."""
    names = tuple(read_list(FILE))
    assert names[-2:] == ("offers", "links")
    return names


@functools.cache
def spam_phrases() -> Classified:
    """The phrases of all sections, each with the number of its section; read once per process."""
    found = read_list(FILE)
    classes_of: dict[Phrase, tuple[int, ...]] = {}
    for number, name in enumerate(sections()):
        for phrase in found[name]:
            classes_of.setdefault(phrase, (number,))
    return Classified.of(classes_of, len(sections()))


class Spam:
    """Judges texts, each alone.

    >>> str(Spam().removed(["Casino bonus! Online slots, free spins! Sign up now: casino, poker room, jackpot!"])[0])
    'spam.topic: 0.461538, allowed is at most 0.06'
    """

    def __init__(self, config: SpamConfig | None = None, kind: Kind = "web"):
        self.config = config or SpamConfig.of(kind)

    def removed(self, texts: Sequence[str] | Words) -> list[Removed | None]:
        """Why each text, or text of these words, is removed: the first limit that it breaks, or None.

        Raises:
            OutOfMemoryError: as `find_phrases`.
        """
        counts, num_words = spam_phrases().counts(texts)
        verdicts: list[Removed | None] = [None] * len(texts)
        for text in np.flatnonzero(counts.max(axis=1, initial=0) >= self.config.min_phrases).tolist():
            verdicts[text] = self.verdict(counts[text].tolist(), int(num_words[text]))
        return verdicts

    def verdict(self, counts: Sequence[int], num_words: int) -> Removed | None:
        """What follows from the phrases of each section."""
        config = self.config
        *topics, offers, links = counts
        topic = max(topics)
        limits = {
            "topic": (topic, config.max_topic_share),
            "topic_with_offers": (topic, config.max_topic_share_with_offers),
            "offers": (offers, config.max_offer_share),
            "links": (links, config.max_link_share),
        }
        for rule, (count, limit) in limits.items():
            if limit is None or count < config.min_phrases or count <= limit * num_words:
                continue
            if rule == "topic_with_offers" and 2 * offers <= limit * num_words:
                continue
            return Removed(rule=f"spam.{rule}", value=count / num_words, threshold=limit, detail="at most")
        return None

    def measured(self, text: str) -> str:
        """What is counted in a text, most frequent phrases first, in one line for people; empty for nothing.

        >>> Spam().measured("Buy now! Free shipping! Buy now!")
        'offers: buy now 2, free shipping 1'
        """
        found: dict[str, Counter[str]] = {}
        for _, phrase in find_longest(words_of(text), spam_phrases().classes_of):
            for section in spam_phrases().classes_of[phrase]:
                found.setdefault(sections()[section], Counter())[" ".join(phrase)] += 1
        return "; ".join(
            f"{name}: " + ", ".join(f"{phrase} {count}" for phrase, count in found[name].most_common(5))
            for name in sections()
            if name in found
        )
