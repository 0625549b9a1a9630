"""Remove lines and paragraphs that a text repeats: menus, banners, footers of pages. The rest stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.verdict import Kind


@dataclass(frozen=True, kw_only=True)
class RepeatsConfig:
    """From which length repeated parts are removed. Short ones are often meant: "Yes.", "}", a refrain."""

    min_line_characters: int | None = 30
    """Shortest line that is removed, without white space around it; None keeps all lines."""

    min_paragraph_characters: int | None = 30
    """Shortest paragraph that is removed; None keeps all paragraphs."""

    def __post_init__(self):
        for name in ("min_line_characters", "min_paragraph_characters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}", hint="null removes nothing")


REPEATS: dict[Kind, RepeatsConfig] = {
    "web": RepeatsConfig(),
    "books": RepeatsConfig(min_line_characters=None, min_paragraph_characters=200),  # verses come again
    "code": RepeatsConfig(min_line_characters=None, min_paragraph_characters=None),
    "docs": RepeatsConfig(min_line_characters=None, min_paragraph_characters=None),  # tables, examples of code
    "chat": RepeatsConfig(min_line_characters=None, min_paragraph_characters=None),
}


@dataclass(frozen=True, kw_only=True)
class WithoutRepeats:
    """A text and what was taken out of it."""

    text: str
    """The same object where nothing was taken out."""

    lines: int = 0
    """Lines removed."""

    line_characters: int = 0
    """Their characters, without white space around them."""

    paragraphs: int = 0
    """Paragraphs removed after that."""

    paragraph_characters: int = 0
    """Their characters, without white space around them."""


def remove_repeats(text: str, config: RepeatsConfig) -> WithoutRepeats:
    """Remove lines equal to an earlier one, and paragraphs that are then equal to an earlier one.

    Lines and paragraphs are those of `definition.py`, compared without the white space around them. A paragraph without
    lines vanishes with the blank lines behind it. Doing it again changes nothing.

    >>> remove_repeats("menu\\n\\none\\n\\nmenu\\n\\ntwo", RepeatsConfig(min_line_characters=4)).text
    'menu\\n\\none\\n\\ntwo'
    """
    seen_lines: set[str] = set()
    seen_paragraphs: set[str] = set()
    kept: list[str] = []
    removed_lines: list[str] = []
    removed_paragraphs: list[str] = []
    for lines, blank_lines in paragraphs_and_gaps(text):
        first = []
        for line in lines:
            stripped = line.strip()
            is_repeated = stripped in seen_lines and is_long(stripped, config.min_line_characters)
            (removed_lines if is_repeated else first).append(stripped if is_repeated else line)
            seen_lines.add(stripped)
        if lines and not first:
            continue
        paragraph = "\n".join(first).strip()
        if paragraph in seen_paragraphs and is_long(paragraph, config.min_paragraph_characters):
            removed_paragraphs.append(paragraph)
            continue
        seen_paragraphs.add(paragraph)
        kept += first + blank_lines
    return WithoutRepeats(
        text="\n".join(kept) if removed_lines or removed_paragraphs else text,
        lines=len(removed_lines),
        line_characters=sum(map(len, removed_lines)),
        paragraphs=len(removed_paragraphs),
        paragraph_characters=sum(map(len, removed_paragraphs)),
    )


def is_long(part: str, min_characters: int | None) -> bool:
    """Whether a repeated part may be removed."""
    return min_characters is not None and len(part) >= min_characters


def paragraphs_and_gaps(text: str) -> list[tuple[list[str], list[str]]]:
    """Each paragraph's lines with the blank lines after it; before the first one there may be blank lines alone."""
    found: list[tuple[list[str], list[str]]] = [([], [])]
    for line in text.split("\n"):
        lines, blank_lines = found[-1]
        if not line.strip():
            blank_lines.append(line)
        elif blank_lines:
            found.append(([line], []))
        else:
            lines.append(line)
    return found
