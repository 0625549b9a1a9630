"""What is done with each kind of personal data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.personal.span import DATA, Datum

Action = Literal["mask", "drop", "keep"]
ACTIONS: tuple[Action, ...] = get_args(Action)
PLACE = "{kind}"


@dataclass(frozen=True, kw_only=True)
class PersonalConfig:
    """Per kind of datum: `mask` writes its kind in its place, `drop` removes the document, `keep` only counts it."""

    email: Action = "mask"
    """Addresses of electronic mail."""

    phone: Action = "mask"
    """Phone and fax numbers: international, American, with an area code, or named as such by a word beside them."""

    card: Action = "mask"
    """Numbers of payment cards, with a right check digit."""

    iban: Action = "mask"
    """International bank account numbers, with the country's form and right check digits."""

    ssn: Action = "mask"
    """Social security numbers of the United States, in the ranges that are given out."""

    ip: Action = "mask"
    """Public addresses of the Internet Protocol, versions 4 and 6; private, local and documentation ones are none."""

    key: Action = "mask"
    """Private keys, and keys and tokens of services in their published forms."""

    secret: Action = "mask"
    """Passwords, tokens and keys that a text assigns to a name, or writes into an address."""

    mask: str = "[{kind}]"
    """What is written in place of a datum; {kind} becomes EMAIL, PHONE, CARD, IBAN, SSN, IP, KEY or SECRET."""

    def __post_init__(self):
        for kind in DATA:
            if (action := getattr(self, kind)) not in ACTIONS:
                raise ConfigError(f"{kind} must be mask, drop or keep, got {action!r}")
        if any(character.isdigit() or character == "@" for character in self.mask):
            raise ConfigError(
                f"mask {self.mask!r} has a digit or an @ and could itself be taken for a datum",
                hint=f"use words and brackets, as in '[{PLACE}]'",
            )

    def action(self, kind: Datum) -> Action:
        """What is done with a kind."""
        return getattr(self, kind)

    def mask_of(self, kind: Datum) -> str:
        """What is written in its place.

        >>> PersonalConfig(mask="<{kind}>").mask_of("email")
        '<EMAIL>'
        """
        return self.mask.replace(PLACE, kind.upper())
