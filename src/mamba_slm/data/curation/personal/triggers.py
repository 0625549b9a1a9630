"""Cheap patterns that every datum contains: where they hit, and only there, the exact rules look.

A trigger is a regular expression over UTF-8 bytes for hyperscan and over characters for `re`. Of a hit only its end is
used. The engines report different ones (hyperscan all, `re` those that do not overlap), so a detector depends only on
what is equal in both: the run of its characters around a hit, or the ends of a pattern whose hits cannot overlap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

SEPARATORS = " ().\\-/"
WIDE_SEPARATORS = "\u00a0\u2010\u2011\u2012\u2013\u202f"
"""No-break spaces, hyphens and the dash of ranges: what word processors put between groups of digits."""

NUMBER_CHARACTERS = "0123456789+" + SEPARATORS.replace("\\", "") + WIDE_SEPARATORS
HEX_COLON = "0123456789abcdefABCDEF:"
KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:/+="

SECRET_NAMES = (
    "pass(?:word|wd|phrase|code)|pwd|secret|token|authorization|"
    "api[_ -]?key|access[_ -]?key|auth[_ -]?key|private[_ -]?key|account[_ -]?key|encryption[_ -]?key|signing[_ -]?key"
)
KEY_STARTS = (
    "(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12}",
    "gh[pousr]_[A-Za-z0-9]{16}",
    "github_pat_[A-Za-z0-9_]{16}",
    "glpat-[A-Za-z0-9_-]{16}",
    "xox[abeoprs]-[A-Za-z0-9-]{10}",
    "hooks[.]slack[.]com/services/T",
    "(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{14}",
    "whsec_[A-Za-z0-9]{16}",
    "sk-[A-Za-z0-9_-]{20}",
    "AIza[A-Za-z0-9_-]{16}",
    "ya29[.][A-Za-z0-9_-]{16}",
    "GOCSPX-[A-Za-z0-9_-]{16}",
    "hf_[A-Za-z0-9]{20}",
    "npm_[A-Za-z0-9]{20}",
    "pypi-[A-Za-z0-9_-]{20}",
    "SG[.][A-Za-z0-9_-]{22}[.]",
    "(?:SK|AC)[0-9a-f]{16}",
    "key-[0-9a-f]{16}",
    "[0-9a-f]{16}-us[0-9]",
    "do[opr]_v1_[0-9a-f]{16}",
    "shp(?:at|ca|pa|ss)_[0-9a-fA-F]{16}",
    "[0-9]:AA[A-Za-z0-9_-]{16}",
    "[MNO][A-Za-z0-9_-]{23}[A-Za-z0-9_-]{0,4}[.][A-Za-z0-9_-]{6}[.]",
    "eyJ[A-Za-z0-9_-]{10}",
    "dapi[0-9a-f]{16}",
    "hvs[.][A-Za-z0-9_-]{16}",
    "(?:glsa|figd|sbp|ntn|lin_api)_[A-Za-z0-9_-]{16}",
)


SEPARATOR = f"[{SEPARATORS}{WIDE_SEPARATORS}]"
BYTES_SEPARATOR = f"(?:[{SEPARATORS}]|\\xc2\\xa0|\\xe2\\x80[\\x90-\\x93\\xaf])"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One pattern for both engines. They scan the text with a line end after it."""

    name: str
    """The detector that looks at its hits."""

    pattern: str
    """Over characters. Beyond ASCII only `SEPARATOR` and classes of the form [^...], which are alike in bytes."""

    follow: str = ""
    """A class that the next character must be in; it is not part of the hit."""

    is_caseless: bool = False
    """Whether letters match in both cases, of ASCII only."""

    has_overlaps: bool = False
    """Whether hits may overlap and all their ends matter; at one place the pattern may then match one length only."""

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """For `re`; the hit is group 1."""
        follow = f"(?={self.follow})" if self.follow else ""
        hit = f"({self.pattern}){follow}"
        flags = re.ASCII | (re.IGNORECASE if self.is_caseless else 0)
        return re.compile(f"(?={hit})" if self.has_overlaps else hit, flags)

    @property
    def bytes_pattern(self) -> str:
        """For hyperscan; a match ends one byte after the hit where there is a `follow`."""
        return (f"(?:{self.pattern}){self.follow}").replace(SEPARATOR, BYTES_SEPARATOR)


TRIGGERS: tuple[Trigger, ...] = (
    Trigger(name="number", pattern=f"[0-9](?:{SEPARATOR}{{0,3}}[0-9]){{6}}", follow="[^0-9]"),
    Trigger(name="ipv4", pattern="[0-9][.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]"),
    Trigger(
        name="ipv6",
        pattern="[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}:|[23][0-9a-fA-F]{3}:[0-9a-fA-F]{0,4}:",
    ),
    Trigger(name="iban", pattern=r"\b[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}[ -]?[A-Za-z0-9]{4}", has_overlaps=True),
    Trigger(name="key", pattern="|".join(KEY_STARTS)),
    Trigger(name="pem", pattern="-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"),
    Trigger(
        name="secret",
        pattern=f"(?:{SECRET_NAMES})s?(?:[_-][A-Za-z0-9_-]{{1,20}})?[\"']?\\]?[ \\t]{{0,8}}[:=]",
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
    found = {trigger.name: [match.end(1) for match in trigger.compiled.finditer(text)] for trigger in TRIGGERS}
    found[AT] = [match.end() for match in re.finditer("@", text)]
    return {name: ends for name, ends in found.items() if ends}
