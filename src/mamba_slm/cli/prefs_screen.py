"""What a rater sees: the prompt, two answers beside or below each other, the keys. Pure functions of what is shown."""

from __future__ import annotations

import textwrap
import unicodedata

from mamba_slm.core.intervals import Share
from mamba_slm.runs.preferences.choices import CHOICES
from mamba_slm.runs.preferences.session import Shown
from mamba_slm.runs.preferences.statistics import Statistics
from mamba_slm.runs.preferences.verdicts import prompt_text

BESIDE_COLUMNS = 76
"""A terminal at least this wide shows the answers beside each other."""
KEYS = " · ".join(f"{choice.key} {choice.label}" for choice in CHOICES.values() if choice.key != "s")
MORE_KEYS = "e edit best · s skip · u undo · q quit"


def visible(text: str) -> str:
    """The text without what could steer a terminal: control characters but line ends and tabs become a mark.

    >>> visible("a\\x1b[2Jb")
    'a␛[2Jb'
    """
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else chr(0x2400 + ord(character))
        if ord(character) < 32
        else "�"
        for character in text
    )


def columns_of(text: str) -> int:
    """How many columns of a terminal a line takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns; an empty text says so."""
    if not text.strip():
        return ["(empty)"]
    lines: list[str] = []
    for line in visible(text).expandtabs(4).split("\n"):
        for part in textwrap.wrap(line, width, drop_whitespace=True, replace_whitespace=False) or [""]:
            while columns_of(part) > width:  # wide characters, which textwrap counts as one
                cut = next(n for n in range(len(part), 0, -1) if columns_of(part[:n]) <= width)
                lines.append(part[:cut])
                part = part[cut:]
            lines.append(part)
    return lines


def screen(shown: Shown, *, headline: str, columns: int) -> str:
    """Everything of one pair; no model is named."""
    parts = [headline, ""]
    parts += [f"prompt: {line}" if number == 0 else line
              for number, line in enumerate(wrapped(prompt_text(shown.pair.prompt), columns - 8))]  # fmt: skip
    parts += [""]
    if columns >= BESIDE_COLUMNS:
        parts += beside(shown.left.text, shown.right.text, columns)
    else:
        parts += [*boxed("A", shown.left.text, columns), *boxed("B", shown.right.text, columns)]
    return "\n".join([*parts, KEYS, MORE_KEYS])


def boxed(title: str, text: str, columns: int) -> list[str]:
    """A text in a frame."""
    inner = columns - 4
    lines = [line + " " * (inner - columns_of(line)) for line in wrapped(text, inner)]
    top, bottom = "┌ " + title + " " + "─" * (inner - len(title)) + "┐", "└" + "─" * (inner + 2) + "┘"
    return [top, *(f"│ {line} │" for line in lines), bottom]


def beside(left: str, right: str, columns: int) -> list[str]:
    """Two frames of the same height."""
    width = (columns - 1) // 2
    height = max(len(wrapped(text, width - 4)) for text in (left, right))
    frames = []
    for title, text in (("A", left), ("B", right)):
        frame = boxed(title, text, width)
        empty = "│" + " " * (width - 2) + "│"
        frames.append([*frame[:-1], *[empty] * (height + 2 - len(frame)), frame[-1]])
    return [" ".join(pair) for pair in zip(*frames, strict=True)]


def headline(name: str, done: int, total: int, found: Statistics) -> str:
    """How far one is, and how steady; nothing that tells which model is which."""
    parts = [f'set "{name}"', f"{done:,}/{total:,}"]
    if found.self_agreement.count:
        parts.append(f"you agree with yourself {percent(found.self_agreement)} (n={found.self_agreement.count})")
    if found.left.count:
        parts.append(f"A chosen {percent(found.left)}")
    return " ── ".join(parts)


def percent(share: Share) -> str:
    """A share without its interval."""
    return "–" if share.value is None else f"{share.value:.0%}"
