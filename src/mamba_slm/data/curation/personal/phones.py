"""Phone numbers: forms that are nothing else, and weaker ones beside words that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mamba_slm.data.curation.personal.context import OTHER_NUMBER, before, is_phone_named
from mamba_slm.data.curation.personal.span import Span
from mamba_slm.data.curation.personal.triggers import SEPARATOR

DASH = "\\-\u2010\u2011\u2012\u2013"
EXTENSION = r"(?:[ ]?(?:x|ext\.?|extension|#)[ ]?[0-9]{1,5}(?![0-9]))?"
AFTER_EXTENSION = 18
CHAIN = re.compile(rf"\+?[ ]?\(?[0-9](?:{SEPARATOR}{{0,3}}[0-9])*")
NO_NUMBER_BEFORE = rf"(?<![\w+.,/$€£{DASH}])(?<![0-9][ ])"
NO_NUMBER_AFTER = rf"(?![\w%])(?![.,{DASH}][0-9])(?![ ][0-9]{{3}})"

AMERICAN = re.compile(
    rf"{NO_NUMBER_BEFORE}(?:1[ .{DASH}])?"
    rf"(?:\([2-9][0-9]{{2}}\)[ .{DASH}]?[0-9]{{3}}[ .{DASH}]|[2-9][0-9]{{2}}([.{DASH}/])[0-9]{{3}}[.{DASH}]|"
    rf"[2-9][0-9]{{2}}[ \u00a0][2-9][0-9]{{2}}[ \u00a0{DASH}])[0-9]{{4}}{EXTENSION}{NO_NUMBER_AFTER}"
)
PARENTHESISED = re.compile(
    rf"(?<!\w)\(0[0-9]{{1,4}}\)[ {DASH}]?[0-9]{{2,4}}(?:[ {DASH}]?[0-9]{{2,5}}){{1,2}}{EXTENSION}{NO_NUMBER_AFTER}"
)
TRUNK = re.compile(
    rf"{NO_NUMBER_BEFORE}0[1-9][0-9]{{1,3}}[ {DASH}][0-9]{{3,4}}[ {DASH}]?[0-9]{{3,4}}{EXTENSION}{NO_NUMBER_AFTER}"
)
PLUS = re.compile(
    r"(?<![\w+])\+(?:[ ](?=[0-9]{1,3}[ (-]))?(?=[1-9])"
    rf"[0-9](?:{SEPARATOR}{{0,3}}[0-9]){{6,17}}{EXTENSION}(?![\w%])"
)
DOUBLE_ZERO = re.compile(
    rf"{NO_NUMBER_BEFORE}00[ ]?[1-9][0-9]{{0,2}}[ .{DASH}](?:[0-9]{SEPARATOR}{{0,3}}){{7,13}}[0-9]"
    rf"{EXTENSION}{NO_NUMBER_AFTER}"
)
STRONG = {"": AMERICAN, "+": PLUS, "00": DOUBLE_ZERO, "(0": PARENTHESISED, "0": TRUNK}
"""Forms that need no name, by what they contain."""

NOT_DIGIT = re.compile("[^0-9]")
DAY = "(?:0?[1-9]|[12][0-9]|3[01])"
CALENDAR = re.compile(
    rf"(?:1[0-9]|20)[0-9]{{2}}[ ]?[./{DASH}][ ]?(?:0?[1-9]|1[0-2])[./{DASH}][0-3]?[0-9]\b.*"
    rf"|{DAY}[./{DASH}]{DAY}[./{DASH}](?:(?:1[0-9]|20)[0-9]{{2}}|[0-9]{{2}})(?![./{DASH}]?[0-9]).*"
    rf"|(?:(?:1[0-9]|20)[0-9]{{2}}{SEPARATOR}{{1,3}})+(?:1[0-9]|20)[0-9]{{2}}"
    r"|[0-9]+\.[0-9]+|97[89].*"
)
"""Dates, series of years, decimal numbers and ISBNs: they may stand beside words that name phones."""

NATIONAL_DIGITS = range(9, 22)
"""With 00 and the country's code, and an extension."""

E164 = range(8, 16)
"""Digits with the country's code; ITU-T E.164 allows 15, and no country has fewer than 8."""

COUNTRY_CODE = re.compile(
    "1|7|2[07]|3[0123469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|(?:2[1-689]|3[578]|42|5[09]|6[789]|8[05789]|9[679])[0-9]"
)
"""Those of ITU-T E.164; none begins another one."""

AFTER_ZEROS = re.compile(rf"00[ ]?(?:{COUNTRY_CODE.pattern})(?![0-9])")
DECIMAL = re.compile(r"\+[0-9]{1,3}\.[0-9]{8,}")


def find_phones(text: str, start: int, end: int) -> Iterator[Span]:
    """Phone numbers in the run of digits and separators `text[start:end]`.

    >>> text = "Call (212) 555-0187 or +44 20 7946 0958, not 1914-1918 0200."
    >>> [text[span.start : span.end] for span in find_phones(text, 4, len(text))]
    ['(212) 555-0187', '+44 20 7946 0958']
    """
    limit = min(len(text), end + AFTER_EXTENSION)
    found = list(strong_phones(text, start, end, limit))
    yield from found
    for chain in CHAIN.finditer(text, start, end):
        if any(span.start < chain.end() and chain.start() < span.end for span in found):
            continue
        phone = chain[0].strip()
        first = chain.end() - len(phone)
        digits = NOT_DIGIT.sub("", phone)
        if 7 <= len(digits) <= 15 and is_weak_form(text, first, chain.end(), phone, digits):
            extended = EXTENDED.match(text, chain.end(), limit)
            yield Span(first, extended.end() if extended else chain.end(), "phone")


EXTENDED = re.compile(EXTENSION)


def strong_phones(text: str, start: int, end: int, limit: int) -> Iterator[Span]:
    """Forms that need no name: with a plus or 00, of North America, with an area code in parentheses or after a 0."""
    done = start
    piece = text[start:end]
    matches = [
        match for mark, pattern in STRONG.items() if mark in piece for match in pattern.finditer(text, start, limit)
    ]
    for match in sorted(matches, key=lambda match: (match.start(), -match.end())):
        if match.start() < done or match.start() >= end:
            continue
        stop = match.end()
        if match.re is PLUS:
            stop = international_end(match)
        elif not is_national(text, match):
            continue
        if stop is not None:
            done = stop
            yield Span(match.start(), stop, "phone")


def is_national(text: str, match: re.Match[str]) -> bool:
    """Whether a form without a plus has enough digits, and no word before it that names it otherwise."""
    if match.re in (AMERICAN, TRUNK) and OTHER_NUMBER.search(before(text, match.start())):
        return False
    if match.re is DOUBLE_ZERO and not AFTER_ZEROS.match(match[0]):
        return False
    return match.re is AMERICAN or len(NOT_DIGIT.sub("", match[0])) in NATIONAL_DIGITS


def international_end(match: re.Match[str]) -> int | None:
    """Where a number with a plus ends: after ten national digits in North America; None where it cannot be one."""
    number = re.split("[xe#]", match[0], maxsplit=1)[0].rstrip()
    digits = NOT_DIGIT.sub("", number)
    is_bare = number[1:].isdigit()
    if digits[0] == "1":
        if len(digits) < 11 or digits[1] in "01" or (is_bare and len(digits) > 11):
            return None
        return match.end() if len(digits) == 11 else match.start() + length_of_digits(number, 11)
    if (
        COUNTRY_CODE.match(digits) is None
        or DECIMAL.fullmatch(number)
        or digits.endswith("00000")
        or len(digits) not in range(10 if is_bare else E164.start, E164.stop + 1)
    ):
        return None
    return match.end()


def length_of_digits(number: str, count: int) -> int:
    """How many characters the first `count` digits of a number take.

    >>> length_of_digits("+1 212 555 0187 10", 11)
    15
    """
    places = [place for place, character in enumerate(number) if character.isdigit()]
    return places[count - 1] + 1


def is_weak_form(text: str, start: int, end: int, phone: str, digits: str) -> bool:
    """Whether digits in no form of their own are a phone number by the words beside them."""
    beside = text[start - 1 : start] if start else ""
    if beside.isalnum() or beside in ("_", "$", "€", "£", "#", "=") or text[end : end + 1] in ("%", "_", ":"):
        return False
    after = text[end : end + 2]
    if after[:1].isalpha() and after[:1] not in "xe":
        return False
    if digits.endswith("00000") or len(set(digits)) == 1 or CALENDAR.fullmatch(phone):
        return False
    return is_phone_named(text, start, end)
