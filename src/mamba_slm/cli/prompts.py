"""Prompts of `mamba-slm generate`: arguments, files, stdin and JSON Lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError

WRITTEN = ("sample", "text", "num_tokens", "finish_reason", "score")
"""Fields of a line that `generate` writes, beside those of the prompt."""


@dataclass(frozen=True)
class Prompt:
    """One text to continue."""

    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    """Of its line in a JSON Lines file, all but the prompt; they are written again beside the result."""


def read_prompts(words: Sequence[str], files: Sequence[str], jsonl: Sequence[str]) -> list[Prompt]:
    """All prompts in the order arguments, files, JSON Lines; none at all is the beginning of a new document.

    Args:
        words: texts; - is all of stdin.
        files: each holds one prompt; - is stdin.
        jsonl: files of one JSON object per line with a field "prompt"; - is stdin.

    Raises:
        DataError: not there, not UTF-8, or a line without a prompt.
    """
    prompts = [Prompt(read_text("-") if word == "-" else word) for word in words]
    prompts += [Prompt(read_text(name)) for name in files]
    prompts += [prompt for name in jsonl for prompt in read_lines(name)]
    if jsonl and not prompts:
        raise DataError(f"there is no prompt in {', '.join(jsonl)}")
    return prompts or [Prompt("")]


def read_text(name: str) -> str:
    """All of a file, or of stdin for -.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    what = "the prompt on stdin" if name == "-" else name
    try:
        return (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8: {error}", hint="convert it with iconv -t UTF-8") from error
    except OSError as error:
        raise DataError(
            f"{what} cannot be read: {error.strerror}",
            hint="--prompt-file and --jsonl take names of files; a prompt itself stands without a flag",
        ) from error


def read_lines(name: str) -> Iterator[Prompt]:
    """The prompts of a JSON Lines file; empty lines are skipped.

    Raises:
        DataError: a line is no JSON object, has no prompt, or has a field that the result would replace.
    """
    for number, line in enumerate(read_text(name).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {'stdin' if name == '-' else name}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON: {error}") from error
        text = fields.pop("prompt", None) if isinstance(fields, dict) else None
        if not isinstance(text, str):
            raise DataError(f'{where} has no text in a field "prompt"', hint='for example {"prompt": "def main("}')
        taken = [key for key in WRITTEN if key in fields]
        if taken:
            raise DataError(f"{where} has a field {taken[0]!r}, which the result would replace", hint="rename it")
        yield Prompt(text, fields)
