"""Documents with too much profanity for their length.

1. In every text the longest phrases of the lists are found from left to right (`phrases/definition.py`), and counted
   by language and tier.
2. A text is in the language of which it has most function words, and in all that have at least half as many; with
   fewer than `MIN_FUNCTION_WORDS` of any, it may be in all of them. Only their words count: "slut" ends a Swedish text.
3. Severe words, severe and strong ones, all: the first share of the text's words above its limit, in one language, is
   the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.phrases.definition import find_longest, words_of
from mamba_slm.data.curation.phrases.find import Words
from mamba_slm.data.curation.profanity.config import ProfanityConfig
from mamba_slm.data.curation.profanity.lexicon import TIERS, lexicon_of
from mamba_slm.data.curation.verdict import Kind, Removed

MIN_FUNCTION_WORDS = 3
RULES = ("severe", "strong", "any")


class Profanity:
    """Judges texts, each alone.

    >>> judge = Profanity(ProfanityConfig(), "web")
    >>> judge.removed(["Damn it all, said the captain, and the ship sank with the cargo and all of the crew."])
    [None]
    """

    def __init__(self, config: ProfanityConfig | None = None, kind: Kind = "web"):
        self.config = config or ProfanityConfig.of(kind)
        self.lexicon = lexicon_of(self.config.languages)

    def removed(self, texts: Sequence[str] | Words) -> list[Removed | None]:
        """Why each text, or text of these words, is removed: the first limit that it breaks, or None.

        Raises:
            OutOfMemoryError: as `find_phrases`.
        """
        counts, num_words = self.counts(texts)
        cumulated = np.cumsum(counts[:, :, :0:-1], axis=2)  # severe, severe and strong, all
        cumulated[~written_in(counts[:, :, 0])] = 0
        most = cumulated.max(axis=1, initial=0)
        verdicts: list[Removed | None] = [None] * len(texts)
        for text in np.flatnonzero(most[:, -1]).tolist():
            severe, strong, all_tiers = map(int, most[text])
            verdicts[text] = self.verdict((severe, strong, all_tiers), int(num_words[text]))
        return verdicts

    def verdict(self, most: tuple[int, int, int], num_words: int) -> Removed | None:
        """What follows from the largest counts in one language of severe words, severe and strong ones, all."""
        for rule, count in zip(RULES, most, strict=True):
            limit = self.config.max_shares[rule]
            if count >= self.config.min_words[rule] and count > limit * num_words:
                return Removed(rule=f"profanity.{rule}", value=count / num_words, threshold=limit, detail="at most")
        return None

    def counts(self, texts: Sequence[str] | Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Phrases found, [texts languages tiers], and words, [texts]."""
        counts, num_words = self.lexicon.counts(texts)
        return counts.reshape(len(texts), len(self.config.languages), len(TIERS)), num_words

    def measured(self, text: str) -> str:
        """What is counted in a text, most frequent words first, in one line for people; empty for nothing.

        >>> Profanity().measured("Damn, said the captain of the ship, and damn again.")
        'en.mild: damn 2'
        """
        words = [
            f"{name}: " + ", ".join(f"{phrase} {count}" for phrase, count in phrases.most_common(5))
            for name, phrases in sorted(self.found(text).items())
            if not name.endswith(TIERS[0])
        ]
        return "; ".join(words)

    def found(self, text: str) -> dict[str, Counter[str]]:
        """The phrases counted in a text, by language and tier such as "en.strong", found by the definition."""
        found: dict[str, Counter[str]] = {}
        for _, phrase in find_longest(words_of(text), self.lexicon.classes_of):
            for one in self.lexicon.classes_of[phrase]:
                language, tier = divmod(one, len(TIERS))
                name = f"{self.config.languages[language]}.{TIERS[tier]}"
                found.setdefault(name, Counter())[" ".join(phrase)] += 1
        return found


def written_in(function_words: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[texts languages] whether a text is in a language, by its function words of each."""
    most = function_words.max(axis=1, keepdims=True, initial=0)
    return (2 * function_words >= most) | (most < MIN_FUNCTION_WORDS)
