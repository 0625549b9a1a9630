"""Passwords, tokens and keys that a text assigns to a name, as in `password = "..."`, `API_KEY=...` and JSON."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from mamba_slm.data.curation.personal.entropy import bits_per_character
from mamba_slm.data.curation.personal.span import Span

VALUE = re.compile(
    r"[=>~]{0,2}[ \t]{0,8}(?:(?:Bearer|Basic|Token)[ ])?"
    r"(?:(?P<quote>[\"'`])(?P<quoted>[^\s\"'`]{8,256})(?P=quote)|(?P<bare>[^\s\"'`<>(){}\[\],;“”‘’]{8,256}+)(?![(\[{]))",
    re.IGNORECASE,
)
PASSWORD_NAME = re.compile(r"(?:pass(?:word|wd|phrase|code)|pwd)", re.IGNORECASE)
NAME_REACH = 56
STANDS_FOR = re.compile(
    r"\A(?:[$%{<*@#&/.~]|arn:)|[*]\Z|\$\{|\{\{|%\(|://|\Ayour|change.?me|placeholder|redacted|xxx|[*]{3}|[.]{3}|_here\b|"
    r"(?<![A-Za-z])(?:your|my|example|sample|dummy|insert|replace|none|null|undefined)(?![A-Za-z0-9])|"
    r"process\.env|environ|getenv|config\b|secrets?[.]|settings\.",
    re.IGNORECASE,
)
"""References to a value that is elsewhere, and words that stand for one."""

WORDS = re.compile(
    r"[A-Za-z]+|[A-Za-z]*[0-9]{0,3}(?:[-_.:/*][A-Za-z]*[0-9]{0,4})+|[A-Za-z_][A-Za-z0-9_]*(?:[.][A-Za-z_][A-Za-z0-9_]*)+"
)
"""Names of things: a word, words with short numbers behind, and members of objects."""

PASSWORD_BITS, TOKEN_BITS, TOKEN_CHARACTERS = 2.5, 3.0, 16


def find_assigned(text: str, places: Sequence[int]) -> Iterator[Span]:
    """Secret values; the span is the value without its quotes.

    Args:
        text: where to look.
        places: after each = or : that follows a name for a secret.

    >>> text = 'password = "Tr0ub4dor&3"; api_key: YOUR_API_KEY'
    >>> [text[span.start : span.end] for span in find_assigned(text, [10, 34])]
    ['Tr0ub4dor&3']
    """
    for place in places:
        match = VALUE.match(text, place, place + 300)
        if match is None:
            continue
        is_quoted = match["quoted"] is not None
        value = match["quoted"] if is_quoted else match["bare"].rstrip(".")
        name = text[max(0, place - NAME_REACH) : place]
        is_password = [found for found in PASSWORD_NAME.finditer(name)][-1:] != []
        if is_secret(value, is_quoted=is_quoted, is_password=is_password):
            start = match.start("quoted" if is_quoted else "bare")
            yield Span(start, start + len(value), "secret")


def is_secret(value: str, *, is_quoted: bool, is_password: bool) -> bool:
    """Whether a value is a secret itself, by its characters.

    A password has a letter and a digit, or three kinds of characters; a token is longer, and its characters are
    various. Without quotes the right side of an assignment may be an expression: then digits and others must alternate.

    >>> is_secret("correct-horse", is_quoted=True, is_password=True)
    False
    """
    if len(value) < 8:
        return False
    digits, lower, upper = (any(test(one) for one in value) for test in (str.isdigit, str.islower, str.isupper))
    special = any(not (one.isalnum() or one in "_-.:/") for one in value)
    if not (digits and (lower or upper)) and digits + lower + upper + special < 3:
        return False
    if not is_quoted and not special and changes(value) < 2:
        return False
    if STANDS_FOR.search(value) or WORDS.fullmatch(value):
        return False
    if is_password:
        return bits_per_character(value) >= PASSWORD_BITS
    return len(value) >= TOKEN_CHARACTERS and changes(value) >= 2 and bits_per_character(value) >= TOKEN_BITS


def changes(value: str) -> int:
    """How often digits and other characters take turns.

    >>> changes("word2vec"), changes("sha256")
    (2, 1)
    """
    return sum(one.isdigit() != other.isdigit() for one, other in itertools.pairwise(value))
