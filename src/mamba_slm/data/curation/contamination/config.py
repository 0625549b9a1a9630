"""What counts as a question of a benchmark in a document."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.phrases.definition import MAX_PHRASE_WORDS


@dataclass(frozen=True, kw_only=True)
class ContaminationConfig:
    """Runs of words that a document must not share with a benchmark; GPT-3 used 13 (arXiv:2005.14165, appendix C)."""

    ngram_words: int = 13
    """Words in a row that give a question away, at most 16."""

    min_words: int = 8
    """A question of fewer than `ngram_words` is looked for as a whole, if it has this many; with less, together with
    each of its answers."""

    min_distinct_share: float = 0.5
    """Runs like "1 2 3" are passed over: fewer of their words than this share differ, numbers and letters left out."""

    max_questions: int = 10
    """Runs that stand in more questions than this are a benchmark's manner of speaking, and are passed over."""

    min_share: float = 0.0
    """Share of a question's runs that must stand in a document; with 0 one run is enough."""

    background_fields: tuple[str, ...] = ("passage", "support", "article", "document", "evidence", "story", "hint")
    """Texts that a question is about, by the name of their field: they are not looked for, as they come from public
    sources which a model may know."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.ngram_words <= MAX_PHRASE_WORDS:
            raise ConfigError(
                f"min_words {self.min_words} and ngram_words {self.ngram_words} must be in order, from 1 to "
                f"{MAX_PHRASE_WORDS}"
            )
        for name, share in (("min_distinct_share", self.min_distinct_share), ("min_share", self.min_share)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {share}")
        if self.max_questions < 1:
            raise ConfigError(f"max_questions must be at least 1, got {self.max_questions}")
