"""Settings that differ between kinds of source, with the defaults of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from mamba_slm.data.curation.profanity.config import ProfanityConfig
from mamba_slm.data.curation.signals.rules import BOOKS, CHAT, CODE, DOCS, WEB, RulesConfig
from mamba_slm.data.curation.spam.config import SpamConfig


@dataclass(frozen=True, kw_only=True)
class RulesOfKinds:
    """Limits on quality signals, for each kind of source."""

    web: RulesConfig = WEB
    """Of web pages."""

    books: RulesConfig = BOOKS
    """Of books, which are cut into parts of at most `max_characters` first."""

    code: RulesConfig = CODE
    """Of source code."""

    docs: RulesConfig = DOCS
    """Of technical documentation."""

    chat: RulesConfig = CHAT
    """Of conversations."""


@dataclass(frozen=True, kw_only=True)
class ProfanityOfKinds:
    """How much profanity each kind of source may have."""

    web: ProfanityConfig = field(default_factory=partial(ProfanityConfig.of, "web"))
    """Of web pages."""

    books: ProfanityConfig = field(default_factory=partial(ProfanityConfig.of, "books"))
    """Of books."""

    code: ProfanityConfig = field(default_factory=partial(ProfanityConfig.of, "code"))
    """Of source code."""

    docs: ProfanityConfig = field(default_factory=partial(ProfanityConfig.of, "docs"))
    """Of technical documentation."""

    chat: ProfanityConfig = field(default_factory=partial(ProfanityConfig.of, "chat"))
    """Of conversations."""


@dataclass(frozen=True, kw_only=True)
class SpamOfKinds:
    """How much advertising each kind of source may have."""

    web: SpamConfig = field(default_factory=partial(SpamConfig.of, "web"))
    """Of web pages."""

    books: SpamConfig = field(default_factory=partial(SpamConfig.of, "books"))
    """Of books."""

    code: SpamConfig = field(default_factory=partial(SpamConfig.of, "code"))
    """Of source code."""

    docs: SpamConfig = field(default_factory=partial(SpamConfig.of, "docs"))
    """Of technical documentation."""

    chat: SpamConfig = field(default_factory=partial(SpamConfig.of, "chat"))
    """Of conversations."""
