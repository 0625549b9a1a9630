"""From what a form says to the command line that does it: the one that a terminal would use."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import further, texts_of
from mamba_slm.runs.layout import RunDirectory, is_run
from mamba_slm.runs.status import observed_state
from mamba_slm.runs.summary import has_begun

LIMITS = {"minutes": "--max-minutes", "tokens": "--max-tokens", "steps": "--max-steps", "pass": None}
FLAGS = {
    "context_tokens": "--context-tokens",
    "batch_tokens": "--batch-tokens",
    "learning_rate": "--learning-rate",
    "vocab_size": "--vocab-size",
    "seed": "--seed",
}
TEXTS = ("preset", "data", "limit", "amount", "name", "more", *FLAGS)
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
        texts = texts_of(body, TEXTS)
        flags = {key: text for key in FLAGS if (text := texts.get(key))}
        given = {key: text for key, text in texts.items() if key not in FLAGS}
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
        return [*words, *further(self.more, refused=NOT_HERE)]

    def folder(self, home: Path) -> Path:
        """Where the run goes: the name that was given, else date and size, with a number when that is taken.

        Raises:
            ConfigError: the name would leave the home or hide the folder, or is taken.
        """
        return new_folder(home, self.name, self.preset)


def is_taken(run: RunDirectory) -> bool:
    """Whether a run took a step or is at it; what failed before its first one may begin anew with other settings."""
    return is_run(run.path) and (has_begun(run) or observed_state(run) == "running")


def new_folder(home: Path, name: str, what: str) -> Path:
    """A folder for a run: of this name, else of date and `what`, with a number when that is taken.

    Raises:
        ConfigError: the name would leave the home or hide the folder, or is taken.
    """
    chosen = name or f"{time.strftime('%Y%m%d')}-{what}"
    if not re.fullmatch(r"\w[\w.+-]{0,99}", chosen):
        raise ConfigError(
            f"{chosen[:60]!r} is not a usable run name",
            hint="use at most 100 letters, digits, - _ . +, and a letter or digit first",
        )
    if name:
        if is_taken(RunDirectory(home / name)):
            raise ConfigError(f"there is a run {name!r} already", hint="choose another name")
        return home / name
    number = 1
    while (home / (found := chosen if number == 1 else f"{chosen}-{number}")).exists():
        number += 1
    return home / found
