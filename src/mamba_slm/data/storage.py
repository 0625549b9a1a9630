"""Files in S3, Google Cloud Storage and what else fsspec knows: list, fetch to this machine, publish a folder.

S3 is tested against a server that speaks its protocol. gs:// takes the same path through fsspec and is not tested.
Keys, endpoints and regions come from where each service's own tools look for them (AWS_ENDPOINT_URL, ~/.aws, ...).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mamba_slm.core.errors import DataError, MambaSlmError, SetupError
from mamba_slm.core.files import disk_full_is_explained, fsync_folder, is_disk_full
from mamba_slm.core.optional import require
from mamba_slm.data.engine.watchdog import still_going
from mamba_slm.data.folders import is_wanted

REMOTE = re.compile(r"([a-z][a-z0-9+.-]+)://")
PIECE_BYTES = 16 << 20
TRIES = 4
"""Of each request, besides what the client library tries again by itself."""
PAUSE_SECONDS = 1.0
"""Before the second try; doubled each time."""
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file somewhere else, as it was when it was listed."""

    address: str
    """As s3://bucket/folder/file."""
    name: str
    """Its path below what was listed."""
    size_bytes: int
    version: str
    """Changes with the content: an etag, or a time; empty where the storage has none."""


def is_remote(address: str) -> bool:
    """Whether this is an address and not a path.

    >>> is_remote("s3://bucket/x"), is_remote("data/x"), is_remote("C://x")
    (True, False, False)
    """
    return REMOTE.match(address) is not None


def list_files(address: str, pattern: str | Sequence[str] | None = None) -> list[RemoteFile]:
    """The files below an address, or the one file that is there, sorted by name; patterns as in `find_files`.

    Raises:
        DataError: there is nothing.
        SetupError: the storage cannot be reached, or refuses.
        MissingDependencyError: the package for it is not installed.
    """
    system, root = opened(address)
    found = tried(lambda: system.find(root, detail=True), f"listing {address}")
    patterns = [part.strip() for part in pattern.split(",")] if isinstance(pattern, str) else list(pattern or ())
    scheme = address.partition("://")[0]
    files = []
    for path, info in sorted(found.items()):
        name = posixpath.relpath(path, root) if path != root else posixpath.basename(path)
        is_hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if info["type"] == "file" and (path == root or (not is_hidden and is_wanted(Path(name), patterns))):
            files.append(
                RemoteFile(
                    address=f"{scheme}://{path.lstrip('/') if scheme != 'file' else path}",
                    name=name,
                    size_bytes=int(info["size"]),
                    version=version_of(info),
                )
            )
    if not files:
        wanted = f" that matches {', '.join(patterns)}" if patterns else ""
        raise DataError(f"there is no file to read{wanted} at {address}", hint="check the address and its spelling")
    return files


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Bring a file here, under its name; what an earlier call has brought is not fetched again.

    The file gets its name when it is complete. Another version of it is another partial file, never mixed in.

    Raises:
        DataError: it has changed since it was listed, or arrives incomplete.
        SetupError, DiskFullError: the storage, or the disk.
    """
    target = folder / file.name
    if target.is_file() and target.stat().st_size == file.size_bytes:
        return target
    system, path = opened(file.address)
    check_unchanged(file, system, path)
    mark = hashlib.sha256(f"{file.address}\n{file.version}\n{file.size_bytes}".encode()).hexdigest()[:12]
    partial = target.with_name(f".{target.name}.{mark}.partial")
    with disk_full_is_explained(target):
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as out:
            while (start := out.tell()) < file.size_bytes:
                end = min(start + PIECE_BYTES, file.size_bytes)
                out.write(
                    tried(
                        lambda start=start, end=end: system.cat_file(path, start=start, end=end),
                        f"reading {file.address}",
                    )
                )
                out.flush()
                still_going()
            os.fsync(out.fileno())
    try:
        check_unchanged(file, system, path)
    except DataError:
        partial.unlink()
        raise
    os.replace(partial, target)
    fsync_folder(target.parent)
    return target


@contextmanager
def fetched(file: RemoteFile, folder: Path) -> Iterator[Path]:
    """The file on this machine, and no longer than it is needed."""
    target = fetch(file, folder)
    try:
        yield target
    finally:
        target.unlink(missing_ok=True)


def publish(folder: Path, address: str, *, last: str, say: Callable[[str], None] = lambda line: None) -> int:
    """Copy a folder to storage, so that whoever sees the file `last` there sees all of the folder.

    An old `last` goes before anything else is written. What is there already with the same content stays, so that the
    same call continues after a kill.

    Returns:
        Bytes that were sent.

    Raises:
        SetupError: the storage cannot be reached, or refuses.
    """
    system, root = opened(address)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert last in names, f"{last} is not in {folder}"
    there = tried(lambda: system.find(root, detail=True), f"listing {address}")
    marker = posixpath.join(root, last)
    if marker in there and not is_same(folder / last, there[marker]):
        tried(lambda: system.rm_file(marker), f"replacing {address}/{last}")
        del there[marker]
    sent = 0
    for name in [*(name for name in names if name != last), last]:
        source, target = folder / name, posixpath.join(root, name)
        if target in there and is_same(source, there[target]):
            continue
        tried(lambda source=source, target=target: system.put_file(str(source), target), f"writing {address}/{name}")
        size = tried(lambda target=target: system.info(target)["size"], f"checking {address}/{name}")
        if size != source.stat().st_size:
            raise SetupError(f"{address}/{name} has {size:,} bytes after it was written, not {source.stat().st_size:,}")
        sent += size
        say(f"published {name}")
        still_going()
    return sent


def check_unchanged(file: RemoteFile, system: Any, path: str) -> None:
    """Refuse a file that is another one than was listed.

    Raises:
        DataError: its size or version differs.
    """
    info = tried(lambda: system.info(path), f"looking at {file.address}")
    if (int(info["size"]), version_of(info)) != (file.size_bytes, file.version):
        raise DataError(
            f"{file.address} has changed since it was listed: {info['size']:,} bytes, then {file.size_bytes:,}",
            hint="is something still writing there? Run the command again when it is done",
        )


def version_of(info: dict[str, Any]) -> str:
    """What changes with the content of a file: its etag, or the time of its last change."""
    found = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    return str(found).strip('"')


def is_same(source: Path, info: dict[str, Any]) -> bool:
    """Whether a file is there already: its size, and its MD5 where the etag is one."""
    if info["size"] != source.stat().st_size:
        return False
    etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    if not re.fullmatch(r"[0-9a-f]{32}", etag):
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == etag


def opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path inside it.

    Raises:
        MissingDependencyError: its package is not installed.
        SetupError: there is no such kind of storage, or no way to enter it.
    """
    scheme = address.partition("://")[0]
    fsspec = require("fsspec", extra="cloud", purpose=f"reading {scheme}://")
    if scheme in PACKAGES:
        require(PACKAGES[scheme], extra="cloud", purpose=f"reading {scheme}://")
    try:
        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ValueError as error:
        raise SetupError(f"{address}: {error}", hint="s3://BUCKET/PATH and gs://BUCKET/PATH are known") from error
    return system, path.rstrip("/")


def tried(request: Callable[[], T], doing: str) -> T:
    """The answer to a request that may fail for a moment.

    Raises:
        DataError: there is nothing at the address.
        SetupError: it fails again and again, or is refused.
    """
    for turn in range(TRIES):
        try:
            return request()
        except MambaSlmError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"{doing}: there is nothing ({error})", hint="check the address") from error
        except PermissionError as error:
            raise SetupError(f"{doing} was refused: {error}", hint="are the keys for it right?") from error
        except Exception as error:  # each client library has its own
            if is_disk_full(error):
                raise
            if turn == TRIES - 1 or type(error).__name__ == "NoCredentialsError":
                raise SetupError(
                    f"{doing} failed {turn + 1} times: {type(error).__name__}: {error}",
                    hint="is the network up, and are the keys set? The same command continues",
                ) from error
        still_going()
        time.sleep(PAUSE_SECONDS * 2**turn)
    raise AssertionError
