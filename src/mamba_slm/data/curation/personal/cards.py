"""Payment cards and US social security numbers: grouped digits with a check digit or in ranges that are given out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mamba_slm.data.curation.personal import context
from mamba_slm.data.curation.personal.span import Span

DASH = "\\-\u2010\u2011"
CARD = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9][.,/])"
    rf"(?:(?<![0-9]{{2}}[ {DASH}\u00a0])[0-9]{{4}}([ {DASH}\u00a0])[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}(?:\1[0-9]{{3}})?"
    rf"|(?<![0-9]{{2}}[ {DASH}\u00a0])[0-9]{{4}}([ {DASH}\u00a0])[0-9]{{6}}\2[0-9]{{4,5}}|[0-9]{{12,19}})"
    rf"(?![0-9A-Za-z_])(?![.{DASH}][0-9])(?! ?[0-9]{{4}})"
)
SSN = re.compile(
    rf"(?<![0-9A-Za-z_])(?<![0-9][.,/{DASH}])(?!000|666|9)([0-9]{{3}})([ {DASH}]?)(?!00)[0-9]{{2}}\2(?!0000)[0-9]{{4}}"
    rf"(?![0-9A-Za-z_])(?![./{DASH}][0-9])"
)
NOT_DIGIT = re.compile("[^0-9]")
DOUBLED = str.maketrans("0123456789", "0246813579")
"""The sum of the digits of twice a digit."""


ISSUED: tuple[tuple[int, int, int, frozenset[int]], ...] = (
    (4, 4, 1, frozenset({13, 16, 19})),  # Visa
    (51, 55, 2, frozenset({16})),  # Mastercard
    (2221, 2720, 4, frozenset({16})),
    (34, 34, 2, frozenset({15})),  # American Express
    (37, 37, 2, frozenset({15})),
    (300, 305, 3, frozenset({14, 16})),  # Diners Club
    (36, 36, 2, frozenset({14})),
    (38, 39, 2, frozenset({14, 16})),
    (6011, 6011, 4, frozenset({16, 19})),  # Discover
    (644, 659, 3, frozenset({16, 19})),
    (3528, 3589, 4, frozenset({16, 19})),  # JCB
    (1800, 1800, 4, frozenset({15})),
    (2131, 2131, 4, frozenset({15})),
    (62, 62, 2, frozenset({16, 17, 18, 19})),  # UnionPay
    (81, 82, 2, frozenset({16})),  # UnionPay, RuPay
    (2200, 2204, 4, frozenset({16})),  # Mir
    (5018, 5018, 4, frozenset({16, 19})),  # Maestro; its shorter numbers only beside a word that names a card
    (5020, 5020, 4, frozenset({16, 19})),
    (5038, 5038, 4, frozenset({16, 19})),
    (6304, 6304, 4, frozenset({16, 19})),
    (6759, 6763, 4, frozenset({16, 19})),
)
"""First digits from, to, how many they are, and the lengths in digits: what the networks publish."""


def has_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812: doubled every second from the right, sum 0 mod 10.

    >>> has_luhn("4111111111111111"), has_luhn("4111111111111112")
    (True, False)
    """
    odd, even = digits[::-2], digits[-2::-2].translate(DOUBLED)
    return (sum(map(int, odd)) + sum(map(int, even))) % 10 == 0


def is_issued(digits: str) -> bool:
    """Whether a network gives out numbers that begin so and are so long."""
    return any(low <= int(digits[:size]) <= high and len(digits) in lengths for low, high, size, lengths in ISSUED)


def find_cards(text: str, start: int, end: int) -> Iterator[Span]:
    """Cards in the run of digits and separators `text[start:end]`.

    A number that no network is known to give out, and one of 13 or 19 digits without groups, needs a word before it
    that names a card; one without groups that another word names, as an order's or a ticket's, is none.

    >>> list(find_cards("Visa 4111 1111 1111 1111 exp 12/30", 4, 25))
    [Span(start=5, end=24, kind='card')]
    """
    for match in CARD.finditer(text, start, min(end + 1, len(text))):
        digits = NOT_DIGIT.sub("", match[0])
        if not has_luhn(digits) or len(set(digits)) == 1:
            continue
        said = context.before(text, match.start())
        is_named = context.CARD.search(said) is not None
        is_bare = len(match[0]) == len(digits)
        if not is_named:
            if not is_issued(digits) or (is_bare and (len(digits) in (13, 19) or context.OTHER_NUMBER.search(said))):
                continue
            if is_bare and said[-1:] in ("/", "=", "&", "%", "#", "+", ".", "-", "?"):
                continue
        yield Span(match.start(), match.end(), "card")


def find_ssns(text: str, start: int, end: int) -> Iterator[Span]:
    """Social security numbers in the run `text[start:end]`: with hyphens, or in any form after a word that names them.

    >>> list(find_ssns("123-45-6780, 666-45-6780", 0, 11))
    [Span(start=0, end=11, kind='ssn')]
    """
    for match in SSN.finditer(text, start, min(end + 1, len(text))):
        said = context.before(text, match.start())
        if context.is_ssn_named(said) or (match[2] not in ("", " ") and not context.OTHER_NUMBER.search(said)):
            yield Span(match.start(), match.end(), "ssn")
