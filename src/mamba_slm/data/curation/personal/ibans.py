"""International bank account numbers: the form of each country, and check digits."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from mamba_slm.data.curation.personal.span import Span

FORMS = (
    "AD8n12c AE19n AL8n16c AT16n AZ4a20c BA16n BE12n BG4a6n8c BH4a14c BI23n BR23n1a1c BY4c4n16c CH5n12c CR18n "
    "CY8n16c CZ20n DE18n DJ23n DK14n DO4c20n EE16n EG25n ES20n FI14n FK2a12n FO14n FR10n11c2n GB4a14n GE2a16n "
    "GI4a15c GL14n GR7n16c GT24c HN4a20n HR17n HU24n IE4a14n IL19n IQ4a15n IS22n IT1a10n12c JO4a4n18c KW4a22c "
    "KZ3n13c LB4n20c LC4a24c LI5n12c LT16n LU3n13c LV4a13c LY21n MC10n11c2n MD20c ME18n MK3n10c2n MN16n MR23n "
    "MT4a5n18c MU4a19n3a NI4a20n NL4a10n NO11n OM3n16c PK4a16c PL24n PS4a21c PT21n QA4a21c RO4a16c RS18n "
    "RU14n15c SA2n18c SC4a20n3a SD14n SE20n SI15n SK20n SM1a10n12c SO19n ST21n SV4a20n TL19n TN20n TR6n16c "
    "UA6n19c VA18n VG4a16n XK16n YE4a4n18c"
)
"""Per country what follows the check digits: n digits, a letters, c either. From SWIFT's registry of IBANs."""

CLASSES = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
SHORTEST_HIT, LONGEST_HIT = 12, 14
COMPACT_LONGEST = 34


@functools.cache
def forms() -> dict[str, tuple[int, re.Pattern[str]]]:
    """Per country the whole length without spaces, and the pattern."""
    table = {}
    for form in FORMS.split():
        parts = [(int(count), kind) for count, kind in re.findall("([0-9]+)([nac])", form[2:])]
        pattern = form[:2] + "[0-9]{2}" + "".join(f"{CLASSES[kind]}{{{count}}}" for count, kind in parts)
        table[form[:2]] = (4 + sum(count for count, _ in parts), re.compile(pattern))
    return table


def has_check_digits(iban: str) -> bool:
    """ISO 7064 MOD 97-10: the first four characters at the end, letters as 10 to 35, remainder 1.

    >>> has_check_digits("GB82WEST12345698765432"), has_check_digits("GB83WEST12345698765432")
    (True, False)
    """
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def find_ibans(text: str, places: Sequence[int]) -> Iterator[Span]:
    """Account numbers, in one piece or in groups, with upper or lower case letters.

    Args:
        text: where to look.
        places: ends of hits of the trigger: of its 12 characters with up to two spaces or hyphens between.

    >>> text = "GB82 WEST 1234 5698 7654 32."
    >>> [text[span.start : span.end] for span in find_ibans(text, [14])]
    ['GB82 WEST 1234 5698 7654 32']
    """
    done = 0
    for place in places:
        for start in range(max(done, place - LONGEST_HIT), place - SHORTEST_HIT + 1):
            country = text[start : start + 2].upper()
            if country in forms() and (end := iban_end(text, start, country)):
                yield Span(start, end, "iban")
                done = end
                break


def iban_end(text: str, start: int, country: str) -> int | None:
    """Where the account number that begins at `start` ends, or None where there is none."""
    if start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return None
    length, pattern = forms()[country]
    compact, place, gap = "", start, False
    for character in text[start : start + 2 * COMPACT_LONGEST]:
        if character in " -":
            if gap:
                return None
            gap = True
        else:
            compact += character
            gap = False
        place += 1
        if len(compact) == length:
            break
    following = text[place : place + 1]
    if len(compact) != length or not compact.isascii() or following.isalnum() or following == "_":
        return None
    compact = compact.upper()
    return place if pattern.fullmatch(compact) and has_check_digits(compact) else None
