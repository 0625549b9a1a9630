"""The hub's HTTP interface, as far as a download needs it: the commit of a revision, its files, their addresses.

GET {endpoint}/api/datasets/{id}/revision/{revision}            {"sha": …}
GET {endpoint}/api/datasets/{id}/tree/{commit}?recursive=true   [{"type", "path", "size", "oid", "lfs"?}, …], pages
GET {endpoint}/datasets/{id}/resolve/{commit}/{path}            the file; Range requests work
"""

from __future__ import annotations

import fnmatch
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import PurePosixPath

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.data.sources.source import Source
from mamba_slm.data.sources.web import RefusedError, Web

DEFAULT_ENDPOINT = "https://huggingface.co"
NEXT_PAGE = re.compile(r'<([^>]+)>\s*;\s*rel="next"')
MOST_PAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a data set."""

    path: str
    """Inside the repository."""

    size_bytes: int
    sha256: str | None = None
    """Of the content, where the hub stores it as a large file."""

    git_oid: str | None = None
    """Of the content as git hashes it, for the others."""


def endpoint() -> str:
    """HF_ENDPOINT, or the public hub."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def page_of(source: Source) -> str:
    """Where people read about it and accept its terms."""
    return f"{endpoint()}/datasets/{source.hub}"


def commit_of(web: Web, source: Source) -> str:
    """The commit that the revision names now.

    Raises:
        SetupError: no access, no such data set or revision, or no network.
    """
    revision = urllib.parse.quote(source.revision, safe="")
    try:
        answer, _ = web.json(f"{endpoint()}/api/datasets/{source.hub}/revision/{revision}")
    except RefusedError as error:
        raise explained(error, source, web) from error
    sha = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(sha, str) or not re.fullmatch(r"[0-9a-f]{7,64}", sha):
        raise SetupError(f"{page_of(source)} did not name its commit", hint="check HF_ENDPOINT")
    return sha


def list_files(web: Web, source: Source, commit: str) -> list[HubFile]:
    """The files that the source's patterns choose, sorted by path.

    Raises:
        SetupError: no access, or no network.
        DataError: none matches, or the listing is not what a hub sends.
    """
    url: str | None = f"{endpoint()}/api/datasets/{source.hub}/tree/{commit}?recursive=true"
    found: list[HubFile] = []
    num_files = 0
    for _ in range(MOST_PAGES):
        if url is None:
            break
        try:
            entries, headers = web.json(url)
        except RefusedError as error:
            raise explained(error, source, web) from error
        if not isinstance(entries, list):
            raise DataError(f"the list of the files of {source.hub} is no list", hint="check HF_ENDPOINT")
        for entry in entries:
            if entry.get("type") == "file":
                num_files += 1
                if is_wanted(entry["path"], source.files):
                    found.append(file_of(entry))
        link = NEXT_PAGE.search(headers.get("Link") or "")
        url = urllib.parse.urljoin(url, link[1]) if link else None
    if not found:
        raise DataError(
            f"none of the {num_files} files of {source.hub} matches {source.files!r}",
            hint=f"look at {page_of(source)}/tree/{commit} and give the source another pattern with --sources FILE",
        )
    return sorted(found, key=lambda file: file.path)


def is_wanted(path: str, patterns: str) -> bool:
    """Whether one of the patterns chooses the path; scripts are never chosen."""
    if path.endswith(".py"):
        return False
    return any(fnmatch.fnmatchcase(path, pattern.strip()) for pattern in patterns.split(","))


def file_of(entry: dict) -> HubFile:
    """A file of the listing.

    Raises:
        DataError: its path leads out of a folder.
    """
    path = PurePosixPath(entry["path"])
    if path.is_absolute() or ".." in path.parts or "\\" in entry["path"] or not path.parts:
        raise DataError(f"the hub lists a file with the path {entry['path']!r}, which leads elsewhere")
    lfs = entry.get("lfs") or {}
    sha256 = str(lfs.get("oid") or lfs.get("sha256") or "").removeprefix("sha256:")
    return HubFile(
        path=str(path),
        size_bytes=int(lfs.get("size", entry["size"])),
        sha256=sha256 or None,
        git_oid=None if sha256 else entry.get("oid"),
    )


def address_of(source: Source, commit: str, path: str) -> str:
    """Where a file is."""
    return f"{endpoint()}/datasets/{source.hub}/resolve/{commit}/{urllib.parse.quote(path)}"


def explained(error: RefusedError, source: Source, web: Web) -> SetupError:
    """What to do about a refusal."""
    page = page_of(source)
    if error.status in (401, 403):
        if web.token is None:
            return SetupError(
                f"{source.hub} needs a token ({error.status}): it is gated, private, or does not exist",
                hint=f"accept its terms at {page}, make a token that may read at {endpoint()}/settings/tokens, then: "
                "export HF_TOKEN=…",
            )
        return SetupError(
            f"the token in HF_TOKEN may not read {source.hub} ({error.status})",
            hint=f"accept the terms at {page} with the account of the token, or use a token that may read gated data",
        )
    if error.status == 404:
        return SetupError(
            f"{source.hub} at {source.revision} is not there ({error.status})",
            hint=f"look at {page}; correct `hub` or `revision` in a file for --sources",
        )
    return error
