"""What `curate` does, as one schema: its YAML keys and its Python arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.contamination.config import ContaminationConfig
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.kinds import ProfanityOfKinds, RulesOfKinds, SpamOfKinds
from mamba_slm.data.curation.language.gate import LanguageConfig
from mamba_slm.data.curation.lines.config import LinesConfig
from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.verdict import KINDS, Kind

PART_BYTES = 64 << 20
MAX_DOCUMENT_BYTES = 64 << 20
"""Longest line or record that is read: a worker holds one several times, and rules allow 1M characters anyway."""


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Every decision of a curation; the same settings and documents give the same bytes."""

    drop_share: float = 0.30
    """Documents with the lowest quality scores that are dropped, of those of their kind that pass the rules; 0 drops
    none."""

    rules: RulesOfKinds = field(default_factory=RulesOfKinds)
    """Limits that each document must keep."""

    language: LanguageConfig | None = field(default_factory=LanguageConfig)
    """Which documents count as English; null leaves the stage out."""

    profanity: ProfanityOfKinds | None = field(default_factory=ProfanityOfKinds)
    """How much profanity documents may have; null leaves the stage out."""

    spam: SpamOfKinds | None = field(default_factory=SpamOfKinds)
    """How much advertising documents may have; null leaves the stage out."""

    contamination: ContaminationConfig = field(default_factory=ContaminationConfig)
    """What gives a benchmark's question away, where benchmarks are named."""

    personal: PersonalConfig | None = field(default_factory=PersonalConfig)
    """What is done with personal data; null leaves the stage out."""

    duplicates: DuplicatesConfig | None = field(default_factory=DuplicatesConfig)
    """What counts as a near-duplicate; null looks for no duplicates, not even exact ones."""

    lines: LinesConfig | None = field(default_factory=LinesConfig)
    """Which lines stand in too many of the web pages that stay, and are taken out of them; null leaves all in."""

    keep_rejects: bool = False
    """Write the texts of removed documents, too, beside the reasons, which are always written."""

    part_bytes: int = PART_BYTES
    """About how much of the input one task reads, on disk; the files of the result follow the parts."""

    def __post_init__(self):
        if not 0 <= self.drop_share < 1:
            raise ConfigError(f"drop_share must lie in [0, 1), got {self.drop_share}", hint="0.3 drops the worst 30%")
        if self.part_bytes < 1:
            raise ConfigError(f"part_bytes must be positive, got {self.part_bytes}")


@dataclass(frozen=True, kw_only=True, order=True)
class CurateInput:
    """Something to read, and what kind of text it is."""

    kind: Kind
    path: str
    """A file or folder, or python-library."""

    def __str__(self) -> str:
        return f"{self.kind}={self.path}"


def parse_inputs(words: Sequence[str], kind: str | None = None) -> tuple[CurateInput, ...]:
    """Inputs as they are written on a command line, sorted, each once: their order means nothing.

    Args:
        words: PATH, or KIND=PATH where the kind differs from `kind`.
        kind: of those without one.

    >>> [str(one) for one in parse_inputs(["pages", "code=src"], "web")]
    ['code=src', 'web=pages']

    Raises:
        ConfigError: nothing to read, or a path without a kind; UnknownNameError: no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownNameError("kind of source", kind, KINDS)
    found = set()
    for word in words:
        prefix, equals, path = word.partition("=")
        if equals and prefix in KINDS:
            found.add(CurateInput(kind=prefix, path=path))
        elif kind is not None:
            found.add(CurateInput(kind=kind, path=word))  # pyright: ignore[reportArgumentType]
        elif equals and prefix.isalpha() and not Path(word).exists():
            raise UnknownNameError("kind of source", prefix, KINDS)
        else:
            raise ConfigError(
                f"what kind of text is {word}?", hint=f"say so: --kind {'|'.join(KINDS)}, or KIND={word} for this one"
            )
    if not found:
        raise ConfigError("nothing to curate", hint="mamba-slm data curate INPUT --kind web --out FOLDER")
    return tuple(sorted(found))
