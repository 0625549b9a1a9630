"""How much advertising a document may have."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.verdict import KINDS, Kind


@dataclass(frozen=True, kw_only=True)
class SpamConfig:
    """Limits as shares of all words; None leaves a rule out, and a document with few such phrases breaks none."""

    max_topic_share: float | None = 0.06
    """Share of the phrases of one topic that is advertised a lot, such as gambling or replicas."""

    max_offer_share: float | None = 0.03
    """Share of what sellers say: "buy now", "free shipping"."""

    max_topic_share_with_offers: float | None = 0.012
    """Share of one topic where offers have half of this share, too: that is no article about the topic."""

    max_link_share: float | None = 0.08
    """Links per word; an address consists of several words."""

    min_phrases: int = 6
    """Fewer phrases, offers or links than this are no reason."""

    @classmethod
    def of(cls, kind: Kind) -> SpamConfig:
        """The settings for a kind of source.

        Raises:
            UnknownNameError: no such kind.
        """
        if kind not in KINDS:
            raise UnknownNameError("kind of source", kind, KINDS)
        if kind == "code":
            return cls(
                max_topic_share=None, max_offer_share=None, max_topic_share_with_offers=None, max_link_share=None
            )
        if kind == "docs":
            return cls(max_link_share=0.15)
        return cls()

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if field.name.startswith("max_") and limit is not None and not 0 <= limit <= 1:
                raise ConfigError(f"{field.name} must lie in [0, 1], got {limit}", hint="null leaves the rule out")
        if self.min_phrases < 1:
            raise ConfigError(f"min_phrases must be at least 1, got {self.min_phrases}")
