"""E-mail addresses, and passwords in the addresses of servers: what an @ may be the middle of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mamba_slm.data.curation.personal.span import Span

LETTERS = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
LOCAL_BACKWARDS = re.compile(f"[{LETTERS}0-9.!#$%&'*+/=?^_`{{|}}~-]+")
EDGES = ".!#$%&'*+/=?^`{|}~-"
DOMAIN = re.compile(
    f"[{LETTERS}0-9](?:[{LETTERS}0-9-]*[{LETTERS}0-9])?(?:\\.[{LETTERS}0-9](?:[{LETTERS}0-9-]*[{LETTERS}0-9])?)+"
)
TOP_LEVEL = re.compile(f"[{LETTERS}]{{2,18}}|[xX][nN]--[A-Za-z0-9-]{{2,59}}")
LONGEST_LOCAL, LONGEST_DOMAIN = 64, 253

ENDINGS_OF_FILES = (
    "png jpg jpeg gif svg webp ico bmp tif tiff pdf css scss less js jsx tsx mjs json xml html htm php asp aspx jsp "
    "txt csv exe dll jar class cpp hpp"
)
NAMES_IN_A_NETWORK = "local localhost localdomain lan internal home invalid"
NO_TOP_LEVEL = frozenset(f"{ENDINGS_OF_FILES} {NAMES_IN_A_NETWORK}".split())
"""Last labels that are endings of files, as in icon@2x.png, or names inside one network; none is a top-level domain."""

NOT_PEOPLE = frozenset({"git", "svn", "hg"})
CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s/@:\"'<>]{0,64}):([^\s/@\"'<>]{3,128})\Z")
LONGEST_CREDENTIALS = 224
PLACEHOLDER = re.compile(
    r"[$%{<*\[].*|(?i:.*(?:password|passwd|passphrase|your|example|secret|xxx|redacted|placeholder).*|pass|pwd|pw|token|key)"
)


def find_addresses(text: str, places: Sequence[int]) -> Iterator[Span]:
    """E-mail addresses and passwords around @ signs.

    Args:
        text: where to look.
        places: after each @.

    >>> text = "ann@site.org, icon@2x.png, git@github.com:me/it, ftp://me:q7Lw@host"
    >>> [text[s.start : s.end] for s in find_addresses(text, [4, 19, 31, 63])]
    ['ann@site.org', 'q7Lw']
    """
    for place in places:
        at = place - 1
        following = text[place : place + 1]
        if not at or text[at - 1] <= " " or not (following.isalnum() or following > "\x7f"):
            continue
        left = text[max(0, at - LONGEST_CREDENTIALS) : at]
        before = CREDENTIALS.search(left) if "://" in left else None
        if before:
            if before[1] != before[2] and not PLACEHOLDER.fullmatch(before[2]):
                yield Span(at - len(before[2]), at, "secret")
            continue
        start = local_start(text, at)
        end = domain_end(text, place)
        if start < at and end and not (text[start:at] in NOT_PEOPLE and text[end : end + 1] in (":", "/")):
            yield Span(start, end, "email")


def local_start(text: str, at: int) -> int:
    """Where the part before the @ begins; `at` where there is none."""
    backwards = text[max(0, at - LONGEST_LOCAL - 1) : at][::-1]
    match = LOCAL_BACKWARDS.match(backwards)
    local = match[0][::-1] if match else ""
    if len(local) > LONGEST_LOCAL or local[-1:] == "." or text[at - len(local) - 1 : at - len(local)] == "@":
        return at
    if "/" in local:
        local = local.rpartition("/")[2]
        if text[max(0, at - len(local) - 2) : at - len(local)] == "//":
            return at
    if "=" in local:
        local = local.rpartition("=")[2]
    return at - len(local.lstrip(EDGES))


def domain_end(text: str, place: int) -> int | None:
    """Where the part after the @ ends, without what only a sentence appends to it; None where there is none.

    >>> domain_end("me@site.org.Then", 3)
    11
    """
    match = DOMAIN.match(text, place, place + LONGEST_DOMAIN)
    if match is None:
        return None
    labels = match[0].split(".")
    while len(labels) > 1:
        last = labels[-1]
        ends_sentence = last[0].isupper() and not last.isupper() and labels[-2][0].islower()
        if TOP_LEVEL.fullmatch(last) and last.lower() not in NO_TOP_LEVEL and not ends_sentence:
            return place + len(".".join(labels))
        if not ends_sentence:
            return None
        labels.pop()
    return None
