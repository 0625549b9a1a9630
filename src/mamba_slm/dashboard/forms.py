"""From what a form says to the command line that does it: the one that a terminal would use."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.runs.layout import is_run

LIMITS = {"minutes": "--max-minutes", "tokens": "--max-tokens", "steps": "--max-steps", "pass": None}
FLAGS = {
    "context_tokens": "--context-tokens",
    "batch_tokens": "--batch-tokens",
    "learning_rate": "--learning-rate",
    "vocab_size": "--vocab-size",
    "seed": "--seed",
}
TEXTS = ("preset", "data", "limit", "amount", "name", "more", *FLAGS)
MOST_CHARACTERS = 4000
NOT_HERE = ("-h", "--help", "--out", "--resume", "--dry-run", "--json", "--debug", "--config", "--launcher", "--nproc")


@dataclass(frozen=True, kw_only=True)
class TrainForm:
    """The form of a training; every field is the text that stands in it."""

    preset: str
    data: str = ""
    """Sources, one in each line."""
    limit: str = "minutes"
    amount: str = ""
    name: str = ""
    """Of the run's folder; empty takes date and size."""
    more: str = ""
    """Further flags, as a terminal takes them."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Settings of their own: the keys of `FLAGS`."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> TrainForm:
        """The form in a request.

        Raises:
            ConfigError: a field is unknown, no text or too long.
        """
        for key, value in body.items():
            if key not in TEXTS:
                raise ConfigError(f"the form has no field {key[:40]!r}")
            if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
                raise ConfigError(f"{key} must be a text of at most {MOST_CHARACTERS} characters")
        flags = {key: text for key in FLAGS if (text := body.get(key, "").strip())}
        given = {key: value.strip() for key, value in body.items() if key not in FLAGS}
        if given.get("limit", "minutes") not in LIMITS:
            raise ConfigError(f"{given['limit']!r} is not a way to end a run")
        return cls(**{"preset": "nano", **given}, flags=flags)

    def words(self) -> list[str]:
        """After `mamba-slm train`, without `--out`.

        Raises:
            ConfigError: the further flags are not written as a terminal takes them, or are not for this form.
        """
        if self.preset.startswith("-") or not self.preset:
            raise ConfigError(f"{self.preset!r} is not a size")
        words = [self.preset]
        for line in self.data.splitlines():
            if line.strip():
                words += ["--data", line.strip()]
        flag = LIMITS[self.limit]
        if flag and self.amount:
            words += [flag, self.amount]
        for key, text in self.flags.items():
            words += [FLAGS[key], text]
        try:
            more = shlex.split(self.more)
        except ValueError as error:
            raise ConfigError(f"the further settings end in the middle of a quote: {error}") from error
        for word in more:
            if word.partition("=")[0].replace("_", "-") in NOT_HERE:
                raise ConfigError(f"{word} is not for this form", hint="type that command in a terminal")
        return [*words, *more]

    def folder(self, home: Path) -> Path:
        """Where the run goes: the name that was given, else date and size, with a number when that is taken.

        Raises:
            ConfigError: the name would leave the home or hide the folder, or is taken.
        """
        name = self.name or f"{time.strftime('%Y%m%d')}-{self.preset}"
        if not re.fullmatch(r"\w[\w.+-]{0,99}", name):
            raise ConfigError(f"{name[:60]!r} is not a usable run name", hint="use letters, digits, - _ . +")
        if self.name:
            if is_run(home / name):
                raise ConfigError(f"there is a run {name!r} already", hint="choose another name")
            return home / name
        number = 1
        while (home / (found := name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return home / found
