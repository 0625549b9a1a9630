"""A text file with a prompt in every line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mamba_slm.core.errors import DataError

SUFFIX = ".txt"


def is_text_file(source: str | Path) -> bool:
    """Whether a source is a file of plain text."""
    return Path(source).suffix.lower() == SUFFIX and Path(source).is_file()


def lines_of_text(path: Path) -> Iterator[tuple[str, str]]:
    """Origin and text of every line that is not empty.

    Raises:
        DataError: not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", hint="convert it with iconv -t UTF-8") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path.name}, line {number}", line
