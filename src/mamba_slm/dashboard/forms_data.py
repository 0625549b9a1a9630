"""From the forms about data to the command lines that do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import parse_count
from mamba_slm.dashboard.fields import texts_of

MOST_TOKENS = 10**15


def plain(value: str, what: str) -> str:
    """A word that is no flag.

    Raises:
        ConfigError: it is empty or would be read as one.
    """
    if not value:
        raise ConfigError(f"{what} is missing")
    return f"./{value}" if value.startswith("-") else value


@dataclass(frozen=True, kw_only=True)
class CountForm:
    """`mamba-slm data inspect` of everything at a path."""

    path: str
    tokenizer: str = ""
    key: str = ""
    """Of the text in records; empty is `text`."""
    kind: str = ""
    """What it was found to be; "conversations" are counted as such."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> CountForm:
        """The form in a request."""
        return cls(**{"path": "", **texts_of(body, ("path", "tokenizer", "key", "kind"))})

    def words(self) -> list[str]:
        """The command."""
        words = ["mamba-slm", "data", "inspect", plain(self.path, "what to inspect")]
        words += ["--tokenizer", plain(self.tokenizer, "the tokenizer")] if self.tokenizer else []
        if self.kind == "conversations":
            return [*words, "--as", "chat"]
        return [*words, f"--text-key={self.key}"] if self.key else words


@dataclass(frozen=True, kw_only=True)
class DownloadForm:
    """`mamba-slm data download` of a part of a public data set."""

    name: str
    tokens: str = "1B"
    out: str = ""
    """Empty is `data/NAME`."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> DownloadForm:
        """The form in a request."""
        return cls(**{"name": "", **texts_of(body, ("name", "tokens", "out"))})

    def words(self) -> list[str]:
        """The command."""
        name = plain(self.name, "the data set")
        amount = [f"--tokens={self.tokens}"] if self.tokens else []
        return ["mamba-slm", "data", "download", name, *amount, "--out", plain(self.out or f"data/{name}", "--out")]


@dataclass(frozen=True, kw_only=True)
class MixForm:
    """`mamba-slm data mix`."""

    sources: str
    """NAME=FOLDER:WEIGHT, one in each line."""
    tokens: str = "1B"
    """Of the training."""
    context_tokens: str = "2048"
    seed: str = "0"
    tokenizer: str = ""
    """Only for the eye; empty takes the one beside the shards."""
    out: str = ""
    """The file to write."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> MixForm:
        """The form in a request."""
        given = texts_of(body, ("sources", "tokens", "context_tokens", "seed", "tokenizer", "out"))
        return cls(**{"sources": "", **{key: value for key, value in given.items() if value}})

    @property
    def lines(self) -> list[str]:
        """The sources."""
        return [line.strip() for line in self.sources.splitlines() if line.strip()]

    @property
    def budget(self) -> int:
        """Training tokens.

        Raises:
            ConfigError: not a positive count.
        """
        tokens = parse_count(self.tokens)
        if not 1 <= tokens <= MOST_TOKENS:
            raise ConfigError(f"tokens must be 1 to {MOST_TOKENS:,}, got {self.tokens}")
        return tokens

    @property
    def context(self) -> int:
        """Tokens of a row."""
        return parse_count(self.context_tokens)

    @property
    def seed_number(self) -> int:
        """Of the order."""
        return parse_count(self.seed)

    def words(self) -> list[str]:
        """The command."""
        words = ["mamba-slm", "data", "mix", *(plain(line, "a source") for line in self.lines)]
        words += [f"--tokens={self.tokens}", f"--context-tokens={self.context_tokens}", f"--seed={self.seed}"]
        return [*words, "--out", plain(self.out, "--out")] if self.out else words


KINDS = {
    "web": "web pages",
    "books": "books",
    "code": "source code",
    "docs": "documentation",
    "chat": "conversations",
}
"""Kinds of text that have rules of their own, and how people call them."""


@dataclass(frozen=True, kw_only=True)
class CurateForm:
    """`mamba-slm data curate`."""

    inputs: str
    """Paths, or KIND=PATH; one in each line."""
    kind: str = "web"
    """Of inputs that say none."""
    out: str = ""
    drop_share: str = ""
    """Of documents with the lowest scores; empty is the command's own."""
    benchmarks: str = ""
    """Files or folders with questions whose copies go, one in each line."""
    workers: str = ""
    config: str = ""
    """A YAML file with all other settings."""
    key: str = ""
    """Of the text in records."""
    keeps_rejects: str = ""
    """"yes" writes the texts of removed documents, too."""
    skips_bad: str = ""
    """"yes" leaves out what cannot be read."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> CurateForm:
        """The form in a request."""
        return cls(**{"inputs": "", **texts_of(body, tuple(cls.__dataclass_fields__))})

    @property
    def lines(self) -> list[str]:
        """The inputs."""
        return [line.strip() for line in self.inputs.splitlines() if line.strip()]

    def words(self) -> list[str]:
        """The command.

        Raises:
            ConfigError: something is missing.
        """
        if not self.lines:
            raise ConfigError("there is nothing to curate yet", hint="give a file or a folder with text")
        words = ["mamba-slm", "data", "curate", *(plain(line, "the input") for line in self.lines)]
        words += [f"--kind={self.kind}", "--out", plain(self.out, "the folder for the result")]
        for flag, text in (
            ("--drop-share", self.drop_share),
            ("--workers", self.workers),
            ("--config", self.config),
            ("--text-key", self.key),
        ):
            words += [f"{flag}={text}"] if text else []
        words += [f"--decontaminate={line.strip()}" for line in self.benchmarks.splitlines() if line.strip()]
        words += ["--keep-rejects"] if self.keeps_rejects == "yes" else []
        return [*words, "--on-error=skip"] if self.skips_bad == "yes" else words
