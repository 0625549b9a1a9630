"""Fetch one file: what arrived of it before is kept, what arrives is checked, and only a correct file gets its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import disk_full_is_explained, fsync_folder
from mamba_slm.data.sources.hub import HubFile, address_of, explained
from mamba_slm.data.sources.source import Source
from mamba_slm.data.sources.web import CONNECTION_ERRORS, PassingError, RefusedError, Web, reason_of

PARTIAL = ".partial"
PIECE_BYTES = 1 << 20
DAMAGED_TRIES = 3
"""Times that a file is fetched when it arrives complete and wrong."""


def fetch(web: Web, source: Source, commit: str, file: HubFile, out: Path, on_progress: Callable[[int], None]) -> int:
    """Make one file complete; gives the bytes that came over the network.

    Raises:
        DataError: it arrived wrong several times.
        SetupError, DiskFullError: as `download`.
    """
    target = out / file.path
    if target.is_file() and target.stat().st_size == file.size_bytes:
        on_progress(file.size_bytes)
        return 0
    partial = target.with_name(target.name + PARTIAL)
    partial.parent.mkdir(parents=True, exist_ok=True)
    url = address_of(source, commit, file.path)
    before = bytes_there(out, file)
    on_progress(before)
    fetched = 0
    for _ in range(DAMAGED_TRIES):

        def attempt() -> None:
            nonlocal fetched
            fetched += fetch_rest(web, url, partial, file.size_bytes, on_progress)

        try:
            with disk_full_is_explained(target):
                web.persist(attempt, url, progress=lambda: size_of(partial))
        except RefusedError as error:
            raise explained(error, source, web) from error
        problem = damage(partial, file)
        if problem is None:
            os.replace(partial, target)
            fsync_folder(target.parent)
            return fetched
        web.say(f"{file.path} arrived damaged ({problem}); fetching it again")
        on_progress(-size_of(partial))
        partial.unlink()
    raise DataError(
        f"{file.path} of {source.hub} arrives damaged: {problem}",
        hint=f"is a proxy in between? Put the file into {target} yourself, or run the command again later",
    )


def fetch_rest(web: Web, url: str, partial: Path, size_bytes: int, on_progress: Callable[[int], None]) -> int:
    """Append what is missing of a file; gives the bytes that came.

    Raises:
        PassingError: the connection ended early.
    """
    start = size_of(partial)
    if start > size_bytes:
        on_progress(-start)
        partial.unlink()
        start = 0
    if start == size_bytes and partial.exists():
        return 0
    came = 0
    with web.open(url, {"Range": f"bytes={start}-"} if start else None) as answer:
        if start and answer.status != 206:  # the server sends everything
            on_progress(-start)
            start = 0
        with partial.open("ab" if start else "wb") as file:
            while start + came < size_bytes:
                try:
                    piece = answer.read(min(PIECE_BYTES, size_bytes - start - came))
                except CONNECTION_ERRORS as error:
                    raise PassingError(reason_of(error)) from error
                if not piece:
                    break
                file.write(piece)
                came += len(piece)
                on_progress(len(piece))
            file.flush()
            os.fsync(file.fileno())
    if start + came < size_bytes:
        raise PassingError(f"the connection ended after {start + came:,} of {size_bytes:,} bytes")
    return came


def damage(path: Path, file: HubFile) -> str | None:
    """What is wrong with a complete file, or None."""
    if size_of(path) != file.size_bytes:
        return f"{size_of(path):,} bytes instead of {file.size_bytes:,}"
    if file.sha256 is None and file.git_oid is None:
        return None
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
    name = "sha256" if file.sha256 else "git hash"
    wanted = file.sha256 or file.git_oid
    return None if digest.hexdigest() == wanted else f"its {name} is {digest.hexdigest()[:12]}…, not {wanted[:12]}…"  # type: ignore[index]


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def bytes_there(out: Path, file: HubFile) -> int:
    """What of a file need not be fetched."""
    target = out / file.path
    there = size_of(target)
    if there == file.size_bytes:
        return there
    return min(size_of(target.with_name(target.name + PARTIAL)), file.size_bytes)
