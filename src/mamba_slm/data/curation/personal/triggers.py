"""Cheap patterns that every datum contains: where they hit, and only there, the exact rules look.

A trigger is a regular expression over UTF-8 bytes for hyperscan and over characters for `re`. Of a hit only its end is
used. The engines report different ones (hyperscan all, `re` those that do not overlap), so a detector depends only on
what is equal in both: the run of its characters around a hit, or the ends of a pattern whose hits cannot overlap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

SEPARATORS = " ().\\-/"
WIDE_SEPARATORS = "\u00a0\u2010\u2011\u2012\u2013\u202f"
"""No-break spaces, hyphens and the dash of ranges: what word processors put between groups of digits."""

NUMBER_CHARACTERS = "0123456789+" + SEPARATORS.replace("\\", "") + WIDE_SEPARATORS
HEX_COLON = "0123456789abcdefABCDEF:"
KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:/+="

SECRET_NAMES = {
    "pass": "pass(?:word|wd|phrase|code)",
    "pwd": "pwd",
    "secret": "secret",
    "token": "token",
    "auth": "authorization",
    "key": "(?:api|access|auth|private|account|encryption|signing)[_ -]?key",
}
ASSIGNED = r"s?(?:[_-][A-Za-z0-9_-]{1,20})?[\"']?\]?[ \t]{0,8}[:=]"
KEY_STARTS = {
    **{start: f"{start}[A-Z0-9]{{12}}" for start in ("AKIA", "ASIA", "ABIA", "ACCA")},
    **{f"gh{letter}_": f"gh{letter}_[A-Za-z0-9]{{16}}" for letter in "pousr"},
    "github_pat_": "github_pat_[A-Za-z0-9_]{16}",
    "glpat-": "glpat-[A-Za-z0-9_-]{16}",
    "xox": "xox[abeoprs]-[A-Za-z0-9-]{10}",
    "hooks.slack": "hooks[.]slack[.]com/services/T",
    "_live_": "[sr]k_live_[A-Za-z0-9]{14}",
    "_test_": "[sr]k_test_[A-Za-z0-9]{14}",
    "whsec_": "whsec_[A-Za-z0-9]{16}",
    "sk-": "sk-[A-Za-z0-9_-]{20}",
    "AIza": "AIza[A-Za-z0-9_-]{16}",
    "ya29.": "ya29[.][A-Za-z0-9_-]{16}",
    "GOCSPX-": "GOCSPX-[A-Za-z0-9_-]{16}",
    "hf_": "hf_[A-Za-z0-9]{20}",
    "npm_": "npm_[A-Za-z0-9]{20}",
    "pypi-": "pypi-[A-Za-z0-9_-]{20}",
    "SG.": "SG[.][A-Za-z0-9_-]{22}[.]",
    "SK": "SK[0-9a-f]{16}",
    "AC": "AC[0-9a-f]{16}",
    "key-": "key-[0-9a-f]{16}",
    "-us": "[0-9a-f]{16}-us[0-9]",
    "_v1_": "do[opr]_v1_[0-9a-f]{16}",
    "shp": "shp(?:at|ca|pa|ss)_[0-9a-fA-F]{16}",
    ":AA": "[0-9]:AA[A-Za-z0-9_-]{16}",
    "eyJ": "eyJ[A-Za-z0-9_-]{10}",
    "dapi": "dapi[0-9a-f]{16}",
    "hvs.": "hvs[.][A-Za-z0-9_-]{16}",
    **{f"{start}_": f"{start}_[A-Za-z0-9_-]{{16}}" for start in ("glsa", "figd", "sbp", "ntn", "lin_api")},
}

SEPARATOR = f"[{SEPARATORS}{WIDE_SEPARATORS}]"
BYTES_SEPARATOR = f"(?:[{SEPARATORS}]|\\xc2\\xa0|\\xe2\\x80[\\x90-\\x93\\xaf])"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One pattern for both engines. They scan the text with a line end after it."""

    name: str
    """The detector that looks at its hits."""

    patterns: Mapping[str, str]
    """Alternatives, each by a string that its hits contain, in lower case where case does not matter: `re` tries one
    only in texts that have it. Beyond ASCII there is only `SEPARATOR`, and classes as [^x] that are alike in bytes."""

    follow: str = ""
    """A class that the next character must be in; it is not part of the hit."""

    is_caseless: bool = False
    """Whether letters match in both cases, of ASCII only."""

    has_overlaps: bool = False
    """Whether hits may overlap and all their ends matter; at one place the pattern may then match one length only."""

    @cached_property
    def compiled(self) -> dict[str, re.Pattern[str]]:
        """For `re`; the hit is group 1."""
        follow = f"(?={self.follow})" if self.follow else ""
        flags = re.ASCII | (re.IGNORECASE if self.is_caseless else 0)
        hits = {needle: f"({pattern}){follow}" for needle, pattern in self.patterns.items()}
        return {needle: re.compile(f"(?={hit})" if self.has_overlaps else hit, flags) for needle, hit in hits.items()}

    @property
    def bytes_pattern(self) -> str:
        """For hyperscan; a match ends one byte after the hit where there is a `follow`."""
        return f"(?:{'|'.join(self.patterns.values())}){self.follow}".replace(SEPARATOR, BYTES_SEPARATOR)

    def ends(self, text: str, lowered: str) -> set[int]:
        """Ends of hits by `re` in a text, which is also given in lower case."""
        searched = lowered if self.is_caseless else text
        patterns = [pattern for needle, pattern in self.compiled.items() if needle in searched]
        return {match.end(1) for pattern in patterns for match in pattern.finditer(text)}


TRIGGERS: tuple[Trigger, ...] = (
    Trigger(name="number", patterns={"": f"[0-9](?:{SEPARATOR}{{0,3}}[0-9]){{6}}"}, follow="[^0-9]"),
    Trigger(name="ipv4", patterns={".": "[0-9][.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]"}),
    Trigger(
        name="ipv6",
        patterns={
            ":": "[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}:",
            "::": "[23][0-9a-fA-F]{3}:[0-9a-fA-F]{0,4}:",
        },
    ),
    Trigger(
        name="iban",
        patterns={"": r"\b[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}[ -]?[A-Za-z0-9]{4}"},
        has_overlaps=True,
    ),
    Trigger(name="key", patterns=KEY_STARTS),
    Trigger(name="pem", patterns={"-----BEGIN": "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"}),
    Trigger(
        name="secret",
        patterns={needle: name + ASSIGNED for needle, name in SECRET_NAMES.items()},
        is_caseless=True,
    ),
)
AT = "at"
"""What is no pattern: every @, which finding one character finds sooner than an automaton with others."""

Hits = dict[str, list[int]]
"""Per trigger the ends of its hits, as offsets of characters, ascending. A trigger without hits is absent."""


def hits_with_re(text: str) -> Hits:
    """Hits by the standard library.

    >>> hits_with_re("ask a@b.org or 212-555-0187")
    {'number': [27], 'at': [6]}
    """
    text += "\n"
    lowered = text.lower()
    found = {trigger.name: sorted(trigger.ends(text, lowered)) for trigger in TRIGGERS}
    found[AT] = [match.end() for match in re.finditer("@", text)]
    return {name: ends for name, ends in found.items() if ends}
