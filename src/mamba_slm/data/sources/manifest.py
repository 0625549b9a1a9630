"""download.manifest in a folder of downloads: what is wanted, where it is from, what one may do with it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.sources.hub import HubFile, address_of, page_of
from mamba_slm.data.sources.source import Source

FORMAT_VERSION = 1
MANIFEST = "download.manifest"
"""JSON; not called .json, so that who reads the folder does not take it for data."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an earlier call left."""

    commit: str
    files: tuple[HubFile, ...]


def manifest(
    source: Source, commit: str, files: Sequence[HubFile], tokens: int | None, *, complete: bool
) -> dict[str, Any]:
    """What download.manifest says."""
    return {
        "format_version": FORMAT_VERSION,
        "complete": complete,
        "source": asdict(source),
        "page": page_of(source),
        "commit": commit,
        "licence": source.licence,
        "tokens_wanted": tokens,
        "tokens_estimated": sum(source.tokens_in(file.path, file.size_bytes) for file in files),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "files": [{**asdict(file), "url": address_of(source, commit, file.path)} for file in files],
    }


def read_manifest(out: Path, source: Source) -> Known | None:
    """The manifest of an earlier call.

    Raises:
        DataError: it is damaged, newer, or of another source.
    """
    file = out / MANIFEST
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version, hub, revision, commit = (
            found["format_version"], found["source"]["hub"], found["source"]["revision"], found["commit"],
        )  # fmt: skip
        known = [HubFile(**{key: entry[key] for key in HubFile.__dataclass_fields__}) for entry in found["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="delete it, and the download begins anew") from error
    if version > FORMAT_VERSION:
        raise DataError(f"{file} is of a newer version ({version})", hint="update mamba-slm")
    if (hub, revision) != (source.hub, source.revision):
        raise DataError(
            f"{out} holds {hub} at {revision}, not {source.hub} at {source.revision}",
            hint="choose another folder with --out",
        )
    return Known(commit=commit, files=tuple(known))
