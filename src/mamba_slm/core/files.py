"""Writing files so that a kill at any moment leaves either the old file or the new one, never half of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DiskFullError


@contextlib.contextmanager
def disk_full_is_explained(path: Path) -> Iterator[None]:
    """Turn "no space left on device" into a `DiskFullError` that names the folder and the space left."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        raise DiskFullError(
            f"no space left while writing {path} ({free / 2**20:.0f} MiB free)",
            hint="free some space or choose another folder with --out, then run the same command again: it continues",
        ) from error


def is_disk_full(error: Exception) -> bool:
    """Whether an error means "no space left on device"; libraries in Rust (safetensors) say so only in their text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "os error 28" in str(error) or "os error 122" in str(error)


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` with `data`: temporary name in the same folder, fsync, rename.

    Nobody whom `mode` keeps out can read the file at any moment.

    Raises:
        DiskFullError: the disk is full; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_is_explained(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """`write_bytes_atomic` for UTF-8 text."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: Path, value: Any) -> None:
    """`write_bytes_atomic` for JSON, indented, with a final newline. NaN and infinity are refused."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success every file is synced and the folder renamed to `path`.

    `path` must not exist yet. On any error the temporary folder is removed.

    Raises:
        DiskFullError: the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_is_explained(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb") as opened:
                        os.fsync(opened.fileno())
            os.chmod(temporary, 0o755)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(path.parent)


def folder_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes of the files in a folder; those that their owner takes away meanwhile do not count."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


def sha256_of_file(path: Path) -> str:
    """Hex digest of the file's bytes, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
