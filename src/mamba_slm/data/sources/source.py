"""What is known about a source of text, and the table of all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mamba_slm.core.config import from_dict, load_yaml
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.units import format_bytes, format_count

Kind = Literal["web", "books", "code", "docs", "chat"]
Access = Literal["open", "gated", "withdrawn"]
TABLE = Path(__file__).with_name("table.yaml")
BYTES_PER_TOKEN = {".gz": 1.9, ".zst": 1.6, ".bz2": 1.4, ".xz": 1.4, ".parquet": 2.5}
"""Stored bytes of one token, by the end of the file's name, where the table says nothing; text has about 4.1."""
TEXT_BYTES_PER_TOKEN = 4.3
SCRIPT = re.compile(r"\.py$")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set: where its files are, what they hold, what one may do with them."""

    name: str
    """What commands call it."""

    title: str
    """One line about it."""

    kind: Kind
    """What the text is like; curation has its own rules for each."""

    licence: str
    """What the publisher says; read the card before you use the text."""

    access: Access = "open"
    """open, gated (accept terms and give a token) or withdrawn (nobody offers it any more)."""

    hub: str | None = None
    """OWNER/NAME of the data set on the hub."""

    revision: str = "main"
    """Branch, tag or commit. A download notes the commit and stays with it."""

    files: str = "*"
    """Patterns of the paths in the repository, with commas; `*` also matches `/`. Data files only, never scripts."""

    text_key: str = "text"
    """Column or key of the text."""

    size_bytes: int | None = None
    """Size as published, about; None where it is not known."""

    tokens: int | None = None
    """Tokens as published, about."""

    bytes_per_token: float | None = None
    """Stored bytes of one token; None takes a usual value for the format."""

    mixture_percent: float | None = None
    """Share in the published mixture."""

    instead: str | None = None
    """The source that takes the share of a withdrawn one."""

    note: str | None = None
    """What else one should know."""

    def __post_init__(self) -> None:
        if self.hub is None and self.access != "withdrawn":
            raise ConfigError(f"source {self.name!r} has no hub", hint="write hub: OWNER/NAME")
        if self.hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub):
            raise ConfigError(f"source {self.name!r}: hub must be OWNER/NAME, not {self.hub!r}")
        if any(SCRIPT.search(pattern.strip()) for pattern in self.files.split(",")):
            raise ConfigError(
                f"source {self.name!r}: {self.files!r} asks for scripts, which are never run",
                hint="name data files: Parquet, JSON Lines, text",
            )
        if self.bytes_per_token is not None and not self.bytes_per_token > 0:
            raise ConfigError(f"source {self.name!r}: bytes_per_token must be positive, got {self.bytes_per_token}")

    def tokens_in(self, path: str, size_bytes: int) -> int:
        """About how many tokens a file of this size holds."""
        return round(size_bytes / (self.bytes_per_token or usual_bytes_per_token(path)))

    def bytes_of(self, tokens: int) -> int:
        """About how many stored bytes so many tokens have."""
        return round(tokens * (self.bytes_per_token or usual_bytes_per_token(self.files.partition(",")[0])))

    def __str__(self) -> str:
        rows = [("name", self.name), ("title", self.title), ("kind", self.kind), ("access", self.access)]
        if self.hub is not None:
            rows += [("hub", f"{self.hub} at {self.revision}"), ("files", self.files), ("text in", self.text_key)]
        rows += [("licence", self.licence)]
        rows += [("size", "not known" if self.size_bytes is None else f"about {format_bytes(self.size_bytes)}")]
        rows += [("tokens", "not known" if self.tokens is None else f"about {format_count(self.tokens)}")]
        if self.mixture_percent is not None:
            rows.append(("mixture", f"{self.mixture_percent:g}% of the published one"))
        if self.instead is not None:
            rows.append(("instead", self.instead))
        if self.note:
            rows.append(("note", self.note))
        return "\n".join(f"{name:<9}{value}" for name, value in rows)


def usual_bytes_per_token(path: str) -> float:
    """Stored bytes of one token in such a file.

    >>> usual_bytes_per_token("en/c4.json.gz"), usual_bytes_per_token("a.parquet"), usual_bytes_per_token("a.jsonl")
    (1.9, 2.5, 4.3)
    """
    return BYTES_PER_TOKEN.get(Path(path).suffix.lower(), TEXT_BYTES_PER_TOKEN)


def load_sources(*more: Path | str) -> dict[str, Source]:
    """The table by name, with those of further YAML files, which replace entries of the same name.

    Raises:
        ConfigError: a file is no YAML, an entry is incomplete or has an unknown setting; says file and line.
    """
    sources: dict[str, Source] = {}
    for file in (TABLE, *more):
        entries = load_yaml(file)
        for name, entry in entries.items():
            place = entries.places.get(name, str(file))
            if not isinstance(entry, dict):
                raise ConfigError(f"{place}: source {name!r} must have settings such as hub, kind and licence")
            entry["name"] = str(name)
            sources[str(name)] = from_dict(Source, entry, where=place)
    return sources


def find_source(sources: dict[str, Source], name: str) -> Source:
    """The source of this name.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    if name not in sources:
        raise UnknownNameError(
            "source", name, sources, hint="mamba-slm data sources lists them; --sources FILE adds some"
        )
    return sources[name]


def names_of(sources: Iterable[Source]) -> str:
    """For sentences."""
    return ", ".join(source.name for source in sources)
