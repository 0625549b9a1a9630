"""Quality of documents in one call: length, signals, rules, score, and the text without what it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.signals.definition import COLUMN, NAMES
from mamba_slm.data.curation.signals.native import measure_texts
from mamba_slm.data.curation.signals.repeats import REPEATS, RepeatsConfig, WithoutRepeats, remove_repeats
from mamba_slm.data.curation.signals.rules import RulesConfig, judge, rules_of
from mamba_slm.data.curation.signals.score import PARTS, Part, score_steps
from mamba_slm.data.curation.verdict import Kind, Removed


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """How the quality of one kind of source is judged."""

    rules: RulesConfig
    """Limits; the first one broken removes a document."""

    repeats: RepeatsConfig
    """What is taken out of the documents that stay."""

    parts: tuple[Part, ...]
    """What the score is made of."""

    @classmethod
    def of(cls, kind: Kind) -> QualityConfig:
        """The settings for a kind of source.

        Raises:
            UnknownNameError: no such kind.
        """
        return cls(rules=rules_of(kind), repeats=REPEATS[kind], parts=PARTS[kind])

    def __post_init__(self):
        if not self.parts:
            raise ConfigError("a score needs at least one part")


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The quality of a batch of documents, each judged alone: batches may be cut anywhere."""

    signals: np.ndarray
    """[n len(NAMES)] int64, of the texts as they came; a text of forbidden length has only its `characters`."""

    removed: list[Removed | None]
    """Why a document is removed; None where it stays."""

    steps: np.ndarray
    """[n] int64 scores in [0, 65535], for `curation/quantile.py`; meaningless where a document is removed."""

    kept: list[WithoutRepeats | None]
    """The texts that stay, without what they repeat; None where a document is removed."""


def assess(texts: Sequence[str], config: QualityConfig) -> Assessment:
    """Judge texts, and clean those that stay. Texts of forbidden length cost nothing.

    Raises:
        OutOfMemoryError: as `measure_bytes`.
    """
    shortest, longest = config.rules.min_characters or 0, config.rules.max_characters
    signals = np.zeros((len(texts), len(NAMES)), np.int64)
    signals[:, COLUMN["characters"]] = [len(text) for text in texts]
    measured = [
        i for i, text in enumerate(texts) if len(text) >= shortest and (longest is None or len(text) <= longest)
    ]
    signals[measured] = measure_texts([texts[i] for i in measured])
    removed = judge(signals, config.rules)
    repeats = np.maximum(signals[:, COLUMN["duplicate_lines"]], signals[:, COLUMN["duplicate_paragraphs"]])
    kept = [
        None if reason else remove_repeats(text, config.repeats) if repeated else WithoutRepeats(text=text)
        for text, reason, repeated in zip(texts, removed, repeats, strict=True)
    ]
    return Assessment(signals=signals, removed=removed, steps=score_steps(signals, config.parts), kept=kept)
