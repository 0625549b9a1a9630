"""HTML as function calls, in which no text can become markup: what is not `Markup` is escaped.

>>> str(tag("p", "1 < 2 & ", tag("b", "bold"), class_="note", hidden=True))
'<p class="note" hidden>1 &lt; 2 &amp; <b>bold</b></p>'
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""Elements without content."""

Child = object
"""Markup, text, a number, None (nothing), or an iterable of these."""


class Markup(str):
    """Text that is HTML already. Only this module makes it."""


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """One element. Attribute names lose a final `_` and turn `_` into `-`: `class_`, `aria_label`, `data_run`.

    Args:
        attributes: None and False leave the attribute out, True gives it without a value, all else is escaped.
    """
    written = "".join(attribute(key, value) for key, value in attributes.items() if shows(value))
    opening = f"<{name}{written}>"
    return Markup(opening) if name in VOID else Markup(f"{opening}{join(children)}</{name}>")


def shows(value: object) -> bool:
    """Whether an attribute is written; 0 is a value like any other."""
    return value is not None and value is not False


def attribute(key: str, value: object) -> str:
    """One attribute with the space before it."""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other; what is not `Markup` is escaped.

    >>> str(join(["<script>", [1, None, tag("br")]]))
    '&lt;script&gt;1<br>'
    """
    parts: list[str] = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        elif isinstance(child, Iterable):
            parts.append(join(child))
        elif child is not None:
            parts.append(escape(str(child)))
    return Markup("".join(parts))
