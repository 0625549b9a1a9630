"""Lists of phrases in text files: sections, entries separated by commas, and choices in braces."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from mamba_slm.data.curation.phrases.definition import Phrase, words_of


def read_list(path: Path) -> dict[str, set[Phrase]]:
    """The phrases under each `[section]` of a file; lines that begin with # are remarks."""
    found: dict[str, set[Phrase]] = {}
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            found.setdefault(section, set()).update(tuple(words_of(text)) for text in expanded(line))
    return found


def expanded(line: str) -> list[str]:
    """The entries of a line, with every choice that braces give.

    >>> expanded("idiot{,s}, {kick,bad} ass")
    ['idiot', 'idiots', 'kick ass', 'bad ass']
    """
    entries = re.split(r",\s*(?![^{]*\})", line)
    return [text for entry in entries for text in choices(entry)]


def choices(entry: str) -> list[str]:
    """As `expanded`, of one entry."""
    pieces = [piece.split(",") if i % 2 else [piece] for i, piece in enumerate(re.split(r"\{([^}]*)\}", entry))]
    return ["".join(chosen) for chosen in itertools.product(*pieces)]
