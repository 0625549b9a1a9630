"""How much profanity a document may have."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.profanity.lexicon import LANGUAGES
from mamba_slm.data.curation.verdict import KINDS, Kind


@dataclass(frozen=True, kw_only=True)
class ProfanityConfig:
    """Limits as shares of all words; a document that breaks one also has at least the number of words beside it."""

    max_severe_share: float = 0.001
    """Share of severe words: slurs, sexual violence, abuse of children."""

    min_severe: int = 2
    """Fewer severe words than this are no reason."""

    max_strong_share: float = 0.005
    """Share of severe and strong words: obscenities, pornography."""

    min_strong: int = 3
    """Fewer of them than this are no reason."""

    max_any_share: float = 0.02
    """Share of all, those included that newspapers print."""

    min_any: int = 5
    """Fewer of them than this are no reason."""

    languages: tuple[str, ...] = LANGUAGES
    """Whose words are counted: those of the languages that a document is written in, as far as they are among these."""

    @classmethod
    def of(cls, kind: Kind) -> ProfanityConfig:
        """The settings for a kind of source: what people say in a novel is no reason to lose it.

        Raises:
            UnknownNameError: no such kind.
        """
        if kind not in KINDS:
            raise UnknownNameError("kind of source", kind, KINDS)
        if kind == "books":
            return cls(max_severe_share=0.005, max_strong_share=0.01)
        if kind in ("code", "docs"):
            return cls(max_severe_share=0.002)
        return cls()

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in LANGUAGES:
                raise UnknownNameError("language", language, LANGUAGES)
        for name, share in self.max_shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"max_{name}_share must lie in [0, 1], got {share}")

    @property
    def max_shares(self) -> dict[str, float]:
        """The limits, in the order of judgement."""
        return {"severe": self.max_severe_share, "strong": self.max_strong_share, "any": self.max_any_share}

    @property
    def min_words(self) -> dict[str, int]:
        """How many words each rule needs."""
        return {"severe": self.min_severe, "strong": self.min_strong, "any": self.min_any}
