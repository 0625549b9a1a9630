"""The English gate: documents whose calibrated probability of being English is too low do not pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.language.calibration import WITHOUT_WORDS, calibrations
from mamba_slm.data.curation.language.native import weigh_texts
from mamba_slm.data.curation.verdict import KINDS, Kind, Removed


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Which documents count as English."""

    min_confidence: float = 0.90
    """Probability of English, both ends allowed; 0 lets everything pass."""

    judged_kinds: tuple[Kind, ...] = ("web", "books", "docs", "chat")
    """Kinds of source that are judged. Code is not: what people write in it has no language of its own."""

    def __post_init__(self):
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be a probability, got {self.min_confidence}", hint="try 0.9")
        for kind in self.judged_kinds:
            if kind not in KINDS:
                raise UnknownNameError("kind of source", kind, KINDS)


class LanguageGate:
    """Judges every text alone, so batches may be cut anywhere."""

    def __init__(self, config: LanguageConfig, kind: Kind):
        """For texts of one kind of source.

        Raises:
            UnknownNameError: no such kind.
        """
        if kind not in KINDS:
            raise UnknownNameError("kind of source", kind, KINDS)
        self.config = config
        self.kind: Kind = kind

    def confidence(self, texts: Sequence[str]) -> np.ndarray:
        """Probability that each text is English: [n] float64, of any kind, judged or not.

        Raises:
            OutOfMemoryError: as `weigh_texts`.
        """
        kind: Kind = "docs" if self.kind == "code" else self.kind
        curve = calibrations()[kind]
        return curve.confidence(weigh_texts(texts), without_words=WITHOUT_WORDS[self.kind])

    def removed(self, texts: Sequence[str]) -> list[Removed | None]:
        """Why each text is removed; None where it stays.

        Raises:
            OutOfMemoryError: as `weigh_texts`.
        """
        if self.kind not in self.config.judged_kinds:
            return [None] * len(texts)
        limit = self.config.min_confidence
        return [
            None
            if confidence >= limit
            else Removed(rule="language.not_english", value=confidence, threshold=limit, detail="at least")
            for confidence in self.confidence(texts).tolist()
        ]
