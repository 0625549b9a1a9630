"""Keeping secrets out of what a run records."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

SECRET_OPTION = re.compile(
    r"--(?:key|token|(?:[\w-]*[-_])?(?:"
    r"(?:hf|hub|api|auth|access|bearer|refresh|wandb)[-_]?token|(?:api|access|private|secret)[-_]?key"
    r"|password|passwd|passphrase|secret|credentials?))",
    flags=re.IGNORECASE,
)
"""`--hf-token`, `--api-key`, `--key`; not `--batch-tokens`, `--eos-token` or `--text-key`."""

SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"
)
HIDDEN = "<hidden>"

HOME_FOLDER = re.compile(r"(?<![\w.~-])(?:/home/[^/\s'\":,;]+|/Users/[^/\s'\":,;]+|/root)(?=/|$|[\s'\":,;])")
"""Somebody's home folder, whose name is nobody else's business."""


def redact_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command line with secrets replaced by `<hidden>`.

    >>> redact_command(["mamba-slm", "train", "--hf-token", "abc", "--key=1", "--batch-tokens", "8k"])
    ('mamba-slm', 'train', '--hf-token', '<hidden>', '--key=<hidden>', '--batch-tokens', '8k')
    """
    shown: list[str] = []
    hide_next = False
    for word in command:
        name, equals, value = word.partition("=")
        if hide_next and not word.startswith("--"):
            shown.append(HIDDEN)
            hide_next = False
            continue
        is_secret = SECRET_OPTION.fullmatch(name) is not None
        hide_next = is_secret and not equals
        shown.append(f"{name}={HIDDEN}" if is_secret and value else SECRET_VALUE.sub(HIDDEN, word))
    return tuple(shown)


def redact_text(text: str) -> str:
    """Text for others to see: secrets become `<hidden>`, home folders `~`.

    >>> redact_text("/root and https://ada:pw@host/x")
    '~ and https://<hidden>@host/x'
    """
    return HOME_FOLDER.sub("~", SECRET_VALUE.sub(HIDDEN, text))


def redact_tree(value: Any) -> Any:
    """`redact_text` on every text in nested mappings and lists; keys stay."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(item) for item in value]
    return value


def shell_line(words: Sequence[str]) -> str:
    """The words as one would type them; a `~` at the beginning of a word stays outside of quotes, or it means nothing.

    >>> shell_line(["mamba-slm", "train", "--data", "~/my notes.txt"])
    "mamba-slm train --data ~/'my notes.txt'"
    """

    def typed(word: str) -> str:
        home, slash, rest = word.partition("/")
        return "~/" + (shlex.quote(rest) if rest else "") if home == "~" and slash else shlex.quote(word)

    return " ".join(map(typed, words))
