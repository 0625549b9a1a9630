"""Where tokens come from: what the input's folder says about its source, its licence and how it was curated."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.sources.manifest import MANIFEST as DOWNLOAD

CURATION = "curation.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One of the sources that were curated together."""

    name: str

    licence: str | None = None
    """None: nothing says it."""

    def __str__(self) -> str:
        return f"{self.name}: {self.licence or 'licence unknown'}"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One input of a tokenization."""

    input: str
    """As it was named: a path, or a corpus."""

    licence: str | None = None
    """None: nothing beside the text says it."""

    page: str | None = None
    """Where it was downloaded from."""

    commit: str | None = None
    """Which version of it."""

    curation: str | None = None
    """Fingerprint of the curation that wrote it: its settings and its input."""

    sources: tuple[Source, ...] = ()
    """What was curated."""

    num_documents: int = 0
    """Documents of it in these shards."""

    num_tokens: int = 0
    """Tokens of it in these shards, begin and end tokens included."""

    text_bytes: int = 0
    """UTF-8 bytes of their texts."""

    def __str__(self) -> str:
        curated = f", curation {self.curation[:12]}" if self.curation else ""
        names = f" ({', '.join(map(str, self.sources))})" if self.sources else ""
        page = f", {self.page}" if self.page else ""
        return f"{self.input}{names}, licence {self.licence or 'unknown'}{page}{curated}"


def origin_of(name: str) -> Origin:
    """What is known about an input, without numbers.

    Looks for `curation.json` and `download.manifest` in the folder, or beside the file.

    Raises:
        DataError: one of them is there and damaged.
    """
    path = Path(name)
    folder = path if path.is_dir() else path.parent
    origin: dict[str, Any] = {"input": name}
    if (folder / DOWNLOAD).is_file():
        found = read_object(folder / DOWNLOAD)
        origin |= {key: text_or_none(found.get(key)) for key in ("licence", "page", "commit")}
    if (folder / CURATION).is_file():
        found = read_object(folder / CURATION)
        origin["curation"] = text_or_none(found.get("fingerprint"))
        origin["sources"] = sources_of(found.get("sources"), folder / CURATION)
        licences = {source.licence for source in origin["sources"]}
        if len(licences) == 1:
            origin["licence"] = licences.pop()
    return Origin(**origin)


def sources_of(entries: Any, file: Path) -> tuple[Source, ...]:
    """The sources that a curation lists."""
    try:
        return tuple(Source(name=str(entry["name"]), licence=entry.get("licence")) for entry in entries or ())
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file} is damaged: its sources are no list of objects with names") from error


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: it is none.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="make the folder again, or delete the file") from error
    raise DataError(f"{file} is damaged: it holds no object", hint="make the folder again, or delete the file")


def text_or_none(value: Any) -> str | None:
    """A text, or None for anything else."""
    return value if isinstance(value, str) else None


def origin_from_dict(found: dict[str, Any]) -> Origin:
    """The inverse of `asdict`."""
    return Origin(**{**found, "sources": tuple(Source(**source) for source in found.get("sources", ()))})
