"""Keeping secrets out of what a run records."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
