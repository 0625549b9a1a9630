"""A mixture in a YAML file: token shards by name, their weights, and how the weights change on the way.

mixture: 1                    # format version; makes this a mixture and no text
temperature: 1.0              # without weights: shares are rows ** (1 / temperature)
sources:
  web: {path: web-tokens, weight: 0.7}
  code: {path: code-tokens, weight: 0.3}
changes:
  - {from_tokens: 10B, weights: {web: 0.2, code: 0.8}}

Paths are relative to the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.config import from_dict, load_yaml
from mamba_slm.core.errors import ConfigError, DataError, MambaSlmError
from mamba_slm.core.files import write_text_atomic

FORMAT_VERSION = 1
MOST_BYTES = 1 << 20
"""A larger YAML file is text to train on, and is not parsed to find out."""


@dataclass(frozen=True, kw_only=True)
class MixtureSource:
    """One source."""

    path: str
    """Token shards, or a folder with train/ shards."""

    weight: float | None = None
    """Share of the rows, relative to the other weights; all sources have one, or none."""


@dataclass(frozen=True, kw_only=True)
class MixtureChange:
    """New weights on the way."""

    from_tokens: int
    """They hold from this many training tokens on."""

    weights: dict[str, float]
    """Shares by name; a source that is not named has none from here on."""


@dataclass(frozen=True, kw_only=True)
class MixturePlan:
    """What a mixture file says."""

    sources: dict[str, MixtureSource]
    """By name."""

    temperature: float = 1.0
    """Makes weights from sizes where none are given."""

    changes: tuple[MixtureChange, ...] = ()
    """In their order."""


def is_mixture_file(path: Path | str) -> bool:
    """Whether a path is a YAML file that says that it is a mixture."""
    path = Path(path)
    if path.suffix not in (".yaml", ".yml") or not path.is_file() or path.stat().st_size > MOST_BYTES:
        return False
    try:
        return "mixture" in load_yaml(path)
    except MambaSlmError:
        return False


def read_mixture_file(path: Path | str) -> MixturePlan:
    """Read a mixture file; paths in the result are relative to the working folder, or absolute.

    Raises:
        ConfigError: not of that form; says file and line.
        DataError: written by a newer version.
    """
    path = Path(path)
    content = load_yaml(path)
    version = content.get("mixture")
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} is a mixture of format version {version}; this program reads {FORMAT_VERSION}",
            hint="update mamba-slm: pip install -U mamba-slm",
        )
    layout = from_dict(Layout, content, where=str(path))
    if not layout.sources:
        raise ConfigError(f"{path}: a mixture needs sources", hint="name: {path: FOLDER, weight: NUMBER}")
    places = content["sources"].places
    sources = {
        name: relocated(from_dict(MixtureSource, entry, where=places[name]), path.parent)
        for name, entry in layout.sources.items()
    }
    where = content.places.get("changes", str(path))
    changes = tuple(from_dict(MixtureChange, entry, where=where) for entry in layout.changes)
    return MixturePlan(sources=sources, temperature=layout.temperature, changes=changes)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The keys of a mixture file."""

    mixture: int
    """Format version."""

    sources: dict[str, Any]
    """`MixtureSource` by name."""

    temperature: float = 1.0
    """As in `MixturePlan`."""

    changes: tuple[Any, ...] = ()
    """`MixtureChange`, in their order."""


def relocated(source: MixtureSource, folder: Path) -> MixtureSource:
    """The source with its path as seen from the working folder."""
    return MixtureSource(path=str(folder / source.path), weight=source.weight)


def write_mixture_file(path: Path | str, plan: MixturePlan) -> None:
    """Write a mixture file, with paths relative to it.

    Raises:
        DataError: the file exists already.
    """
    import yaml

    path = Path(path)
    if path.exists():
        raise DataError(f"{path} exists already", hint="choose another file with --out, or delete this one first")
    content: dict[str, Any] = {"mixture": FORMAT_VERSION}
    if plan.temperature != 1:
        content["temperature"] = plan.temperature
    content["sources"] = {
        name: {"path": os.path.relpath(source.path, path.parent)}
        | ({} if source.weight is None else {"weight": source.weight})
        for name, source in plan.sources.items()
    }
    if plan.changes:
        content["changes"] = [
            {"from_tokens": change.from_tokens, "weights": dict(change.weights)} for change in plan.changes
        ]
    write_text_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
