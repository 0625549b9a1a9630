"""Cut long texts, books above all, into parts of allowed length where they hurt least."""

from __future__ import annotations

import re

from mamba_slm.core.errors import ConfigError

BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))
"""Where a cut is made, best first: after a paragraph, a line, a word."""


def cut_long(text: str, *, max_characters: int) -> list[str]:
    """Parts of at most `max_characters`, as long as possible, that joined are the text.

    A cut comes after the last blank line that fits, unless that leaves a part of less than half the length; then after
    the last line end, then after white space, then anywhere.

    >>> cut_long("one two\\n\\nthree four", max_characters=12)
    ['one two\\n\\n', 'three four']

    Raises:
        ConfigError: `max_characters` is not positive.
    """
    if max_characters < 1:
        raise ConfigError(f"max_characters must be at least 1, got {max_characters}")
    parts, start = [], 0
    while len(text) - start > max_characters:
        end = cut_before(text, start, start + max_characters)
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:]]


def cut_before(text: str, start: int, limit: int) -> int:
    """The best place for a cut in the second half of [start, limit]."""
    middle = (start + limit + 1) // 2
    for border in BORDERS:
        ends = [match.end() for match in border.finditer(text, start, limit)]
        if ends and ends[-1] >= middle:
            return ends[-1]
    return limit
