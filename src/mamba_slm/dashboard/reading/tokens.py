"""How text is cut into tokens, and which of them are learned, for pages."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.dashboard.reading.facts import version_of

if TYPE_CHECKING:
    from mamba_slm.text.tokenizer import Tokenizer

Shown = list[list[object]]
"""[id, text, kind] of each token; kind 0 is text, 1 bytes that form no character alone, 2 special."""


def tokenizer_at(path: Path) -> Tokenizer:
    """The vocabulary in a file or folder, read once for each version of it.

    Raises:
        DataError: there is none.
    """
    from mamba_slm.text.vocabularies.opening import find_vocabulary

    file = find_vocabulary(path)
    return loaded(file, version_of(file))


@functools.lru_cache(maxsize=4)
def loaded(file: Path, version: str) -> Tokenizer:
    """One version of a file."""
    from mamba_slm.text.tokenizer import Tokenizer

    return Tokenizer.load(file)


def as_shown(tokenizer: Tokenizer, ids: Sequence[int]) -> Shown:
    """What each token stands for."""
    shown: Shown = []
    for id in ids:
        content = tokenizer.token_bytes(id)
        if id in tokenizer.special_ids:
            shown.append([id, content.decode(errors="replace"), 2])
            continue
        try:
            shown.append([id, content.decode(), 0])
        except UnicodeDecodeError:  # a part of a character
            shown.append([id, content.hex(" "), 1])
    return shown


def of_document(tokenizer: Tokenizer, text: str, *, is_whole: bool) -> list[int]:
    """The tokens of a document as training sees them; without an end where the text was cut for the page."""
    return [tokenizer.bos_id, *tokenizer.encode(text), *([tokenizer.eos_id] if is_whole else [])]
