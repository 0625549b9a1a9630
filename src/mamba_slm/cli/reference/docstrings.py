"""Docstrings as Markdown."""

from __future__ import annotations

import re
import textwrap

SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):\s*(.*)$")


def as_markdown(docstring: str) -> str:
    r"""Text as it stands; what follows `Args:` and `Raises:` as a list; what is indented or an example as code.

    >>> print(as_markdown("Add.\n\nArgs:\n    a: one\n        number.\n\nRaises:\n    E: never."))
    Add.
    <BLANKLINE>
    **Args**
    <BLANKLINE>
    - `a`: one number.
    <BLANKLINE>
    **Raises**
    <BLANKLINE>
    - `E`: never.
    <BLANKLINE>
    """
    pieces = []
    for block in re.split(r"\n{2,}", textwrap.dedent(docstring).strip()):
        lines = block.splitlines()
        start = next((i for i, line in enumerate(lines) if SECTION.match(line)), None)
        if start is None:
            pieces.append(code(block) if block.startswith((">>> ", "    ")) else prose(block))
            continue
        if start:
            pieces.append(prose("\n".join(lines[:start])))
        found = SECTION.match(lines[start])
        assert found is not None
        rest = textwrap.dedent("\n".join(lines[start + 1 :]))
        pieces.append(f"**{found[1]}**" + (f": {prose(found[2])}" if found[2] else ""))
        if found[2] and rest:
            pieces[-1] += " " + prose(" ".join(rest.split()))
        elif rest:
            pieces.append("\n".join(items(rest)))
    return "\n\n".join(pieces) + "\n"


def prose(text: str) -> str:
    r"""Text in which nothing but inline code is markup: patterns of file names have stars, too.

    >>> print(prose("files '*.md' as in `*.md`, but not <a>"))
    files '\*.md' as in `*.md`, but not &lt;a>
    """
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(
        piece if piece.startswith("`") else piece.replace("*", r"\*").replace("<", "&lt;") for piece in pieces
    )


def items(text: str) -> list[str]:
    """The entries of a section, `name: text` with further lines indented."""
    entries: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(" ") and entries:
            entries[-1].append(line.strip())
        else:
            entries.append([line.strip()])
    return [item(" ".join(entry)) for entry in entries]


def item(text: str) -> str:
    """An entry of a list; a name in front becomes code."""
    name, colon, rest = text.partition(": ")
    return f"- `{name}`: {prose(rest)}" if colon and re.fullmatch(r"[\w*, ]+", name) else f"- {prose(text)}"


def code(block: str) -> str:
    """A block of code: an example of Python, or a picture made of characters."""
    language = "pycon" if block.startswith(">>> ") else "text"
    return f"```{language}\n{textwrap.dedent(block)}\n```"
