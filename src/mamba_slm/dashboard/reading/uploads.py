"""Files that browsers send: written beside the runs under a name that cannot lead elsewhere, all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DiskFullError, UsageError
from mamba_slm.core.units import format_bytes
from mamba_slm.dashboard.reading.places import UPLOADS

PIECE_BYTES = 1 << 20
SPARE_BYTES = 64 << 20
"""Stays free on the disk, for the runs."""
FORGOTTEN_SECONDS = 3600.0
LONGEST_NAME = 120
"""Bytes."""


def clean_name(name: str) -> str:
    """The name of a file without folders, and without what a shell or a list could stumble over.

    >>> clean_name("../../My notes (1).txt"), clean_name(".hidden"), clean_name("C:\\\\a\\\\b.jsonl")
    ('My_notes_1_.txt', 'hidden', 'b.jsonl')

    Raises:
        UsageError: nothing is left of it.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = re.sub(r"[^\w.+-]+", "_", last).lstrip("._-")
    kept = kept.encode(errors="replace")[-LONGEST_NAME:].decode(errors="ignore")
    stem, dot, suffix = kept.lstrip("._-").partition(".")
    if not stem:
        raise UsageError(f"{name[:60]!r} is not a usable name of a file", hint="use letters, digits, - _ . +")
    return f"{stem}{dot}{suffix}"


def check_space(folder: Path, needed_bytes: int) -> None:
    """Refuse what would not leave room on the disk.

    Raises:
        DiskFullError: it would not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPARE_BYTES:
        raise DiskFullError(
            f"the file has {format_bytes(needed_bytes)}, and {format_bytes(free)} are free where the runs are",
            hint="free some space, or copy the file to another disk and start the dashboard with --data FOLDER",
        )


async def receive_file(pieces: AsyncIterator[bytes], *, name: str, home: Path, announced_bytes: int) -> Path:
    """Write a body to `HOME/.uploads/NAME`, or NAME-2 where that is taken; leaves nothing when it breaks off.

    Args:
        announced_bytes: what the sender says; 0 when it says nothing.

    Raises:
        MambaSlmError: the name is unusable, or the disk has no room.
    """
    name = clean_name(name)
    folder = (home / UPLOADS).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    forget_old_parts(folder)
    check_space(folder, announced_bytes)
    descriptor, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            written, waiting = 0, bytearray()
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= PIECE_BYTES:
                    check_space(folder, 0)  # others write, too, and not every sender says how much comes
                    await asyncio.to_thread(write_all, file, bytes(waiting))
                    written += len(waiting)
                    waiting.clear()
            if not written + len(waiting):
                raise UsageError(f"{name} is empty", hint="choose a file with something in it")
            await asyncio.to_thread(write_all, file, bytes(waiting))
            await asyncio.to_thread(os.fsync, descriptor)
        target = free_place(folder, name)
        os.replace(part, target)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError("the disk filled up while the file came; nothing of it was kept") from error
        raise
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    return target


def write_all(file: Any, data: bytes) -> None:
    """Write all of it: a disk that fills up may take a part and say nothing."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def free_place(folder: Path, name: str) -> Path:
    """An empty file of this name, or with a number; two senders never get the same."""
    stem, dot, suffix = name.partition(".")
    number = 1
    while True:
        path = folder / (name if number == 1 else f"{stem}-{number}{dot}{suffix}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            number += 1
            continue
        return path


def forget_old_parts(folder: Path) -> None:
    """Remove what a dashboard that was killed left behind."""
    for part in folder.glob(".*.part"):  # what begins with a dot is never the name of a file that somebody sent
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > FORGOTTEN_SECONDS:
                part.unlink()
