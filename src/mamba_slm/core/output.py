"""Where a result is written: beside its final place until it has been checked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mamba_slm.core.errors import DiskFullError, UsageError
from mamba_slm.core.files import disk_full_is_explained, fsync_folder
from mamba_slm.core.units import format_bytes

SPARE_BYTES = 1 << 20
"""For what is not counted: folders, block sizes, small files."""


@contextlib.contextmanager
def new_output(path: Path, *, needed_bytes: int, overwrite: bool = False, is_file: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any error.

    Args:
        path: where the result shall be.
        needed_bytes: what will be written, as far as it is known beforehand.
        overwrite: replace what is there; it stays until the new one is complete.
        is_file: yield the name of a file to be created, else a folder, which exists.

    Raises:
        UsageError: there is something at `path` already.
        DiskFullError: too little space, before or during the work.
    """
    require_free(path, overwrite=overwrite)
    require_space(path, needed_bytes)
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_is_explained(path):
        around = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        temporary = around / path.name
        try:
            if not is_file:
                temporary.mkdir()
            yield temporary
            sync(temporary)
            require_free(path, overwrite=overwrite)  # somebody else may have been faster
            put_in_place(temporary, path)
            fsync_folder(path.parent)
        finally:
            shutil.rmtree(around, ignore_errors=True)
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                for folder in made:
                    folder.rmdir()


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename to `path`; what stands there goes first, and comes back if the renaming fails."""
    if not (path.exists() or path.is_symlink()):
        os.rename(temporary, path)
        return
    replaced = temporary.with_name(f"{temporary.name}.replaced")
    os.rename(path, replaced)
    try:
        os.rename(temporary, path)
    except OSError:
        os.rename(replaced, path)
        raise


def require_free(path: Path, *, overwrite: bool = False) -> None:
    """Raise UsageError if there is something at `path`, unless it may be overwritten."""
    if not overwrite and (path.exists() or path.is_symlink()):
        raise UsageError(f"{path} exists already", hint="choose another place with --out, or add --overwrite")


def require_space(path: Path, needed_bytes: int) -> None:
    """Raise DiskFullError, naming both numbers, unless `needed_bytes` fit beside `path`."""
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes + SPARE_BYTES > free:
        raise DiskFullError(
            f"{path} needs {format_bytes(needed_bytes)}, but {existing} has {format_bytes(free)} free",
            hint="free some space, or choose another disk with --out",
        )


def sync(path: Path) -> None:
    """Make every file below `path` survive a power cut, readable by everybody who may read the folder."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            os.chmod(file, 0o644)  # safetensors lets nobody else read what it writes
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        else:
            fsync_folder(file)
