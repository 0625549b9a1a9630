"""Small pieces of Markdown that stay correct whatever text is put into them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def cell(text: str) -> str:
    """Text for a table cell: one line, with bars escaped.

    >>> cell("a|b\\nc")
    'a\\\\|b c'
    """
    line = " ".join(printable(text).split())
    return re.sub(r"(\\*)\|", r"\1\1\\|", line)  # backslashes before a bar are doubled, or they would undo its escape


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """A table; the columns named in `right` are aligned to the right. Bars in cells are escaped."""
    lines = [header, ["--:" if name in right else "---" for name in header], *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def fenced(text: str) -> str:
    """A code block that no run of backticks inside can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


def inline_code(text: str) -> str:
    """Inline code of one line that no run of backticks inside can close; empty text becomes `""`."""
    line = printable(text).replace("\n", "\\n").replace("\t", "\\t") or '""'
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    marks = "`" * (longest + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{marks}{space}{line}{space}{marks}"


def printable(text: str) -> str:
    """The text with control characters shown as `\\x1b`; newlines and tabs stay.

    >>> printable("a\\x1b[31m\\r\\n")
    'a\\\\x1b[31m\\\\r\\n'
    """
    return "".join(
        character if character in "\n\t" or character.isprintable() else escaped(character) for character in text
    )


def escaped(character: str) -> str:
    """A character as Python would write it; spaces of other widths become plain ones."""
    return " " if character.isspace() and ord(character) > 0x7F else character.encode("unicode_escape").decode()
