"""Whether all processes see the same folder, and how fast it is. All call this together."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.training.distributed.facts import numbers
from mamba_slm.training.distributed.finding import Finding, milliseconds
from mamba_slm.training.distributed.world import World

CONTENT_BYTES = 16 << 20
WAIT_SECONDS = 10.0
"""A network disk may show a new file late; NFS clients look again after a few seconds."""
PROBE = ".mamba-slm-probe-"


def check_disk(world: World, folder: Path, *, wait_seconds: float = WAIT_SECONDS) -> Finding:
    """Process 0 makes a folder in `folder`; each process writes a file there, and reads the file of the next one."""
    name = world.agree(lambda: f"{PROBE}{os.getpid()}-{time.time_ns()}")
    place, was_there = folder / name, folder.exists()
    free = 0
    try:
        begun = world.gather(begin(world, place, wait_seconds))
        failed = {rank: text for rank, text in enumerate(begun) if text}
        if failed:
            return unseen(folder, failed)
        written = world.gather(write(place / str(world.rank), world.rank))
        failed = {rank: answer["failed"] for rank, answer in enumerate(written) if answer["failed"]}
        if failed:
            return unseen(folder, failed)
        free = shutil.disk_usage(place).free
        read = world.gather(read_back(place, (world.rank + 1) % world.size, wait_seconds))
        failed = {rank: answer["failed"] for rank, answer in enumerate(read) if answer["failed"]}
        if failed:
            return unseen(folder, failed)
    finally:
        world.gather("")  # nobody reads any more
        if world.is_first:
            shutil.rmtree(place, ignore_errors=True)
            if not was_there:
                with contextlib.suppress(OSError):  # somebody else uses it meanwhile
                    folder.rmdir()
    size = world.size * CONTENT_BYTES
    write_rate, read_rate = (size / max(answer["seconds"] for answer in found) for found in (written, read))
    late = max(answer["late_seconds"] for answer in read)
    sync = max(answer["sync_seconds"] for answer in written)
    return Finding(
        name="disk",
        text=f"{folder} is seen by all: {format_bytes(write_rate)}/s written with fsync, {format_bytes(read_rate)}/s "
        f"read, all processes together; a small file is safe after {milliseconds(sync)}, {format_bytes(free)} free",
        measured={
            "write_bytes_per_second": write_rate,
            "read_bytes_per_second": read_rate,
            "late_seconds": late,
            "sync_seconds": sync,
            "free_bytes": float(free),
        },
    )


def unseen(folder: Path, failed: dict[int, str]) -> Finding:
    """Some processes cannot use the folder."""
    why = next(iter(failed.values()))
    return Finding(
        name="disk",
        status="fail",
        text=f"process {numbers(list(failed))} cannot use {folder}: {why}",
        hint="--folder must be on a disk that every machine sees under the same path, with room and rights to write",
    )


def begin(world: World, place: Path, wait_seconds: float) -> str:
    """Make the folder in process 0, wait for it in the others; gives what went wrong."""
    failed = world.agree(lambda: make(place))
    if failed or world.is_first:
        return failed if world.is_first else ""
    if not appears(place / "here", wait_seconds):
        return f"the folder that process 0 made there did not appear within {format_seconds(wait_seconds)}"
    return ""


def make(place: Path) -> str:
    """Make the folder with a file in it; gives what went wrong."""
    try:
        place.mkdir(parents=True)
        (place / "here").write_text("here")
    except OSError as error:
        return said(error)
    return ""


def write(file: Path, rank: int) -> dict[str, Any]:
    """Write this process's file to the disk itself."""
    content = bytes([rank % 251]) * CONTENT_BYTES
    try:
        began = time.perf_counter()
        put(file, content)
        seconds = time.perf_counter() - began
        put(file.with_suffix(".small"), b"small")
    except OSError as error:
        return {"failed": said(error), "seconds": 0.0, "sync_seconds": 0.0}
    return {"failed": "", "seconds": seconds, "sync_seconds": time.perf_counter() - began - seconds}


def put(file: Path, content: bytes) -> None:
    """Write, sync, and rename, as a checkpoint is written."""
    writing = file.with_name(f".{file.name}")
    with writing.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    writing.rename(file)


def read_back(place: Path, other: int, wait_seconds: float) -> dict[str, Any]:
    """Read the file of another process, from the disk where the system lets us ask for that."""
    file, began = place / str(other), time.perf_counter()
    if not appears(file, wait_seconds):
        why = f"the file of process {other} did not appear within {format_seconds(wait_seconds)}"
        return {"failed": why, "seconds": 0.0, "late_seconds": 0.0}
    late = time.perf_counter() - began
    try:
        with file.open("rb") as stream:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            content = stream.read()
            seconds = time.perf_counter() - began
    except OSError as error:
        return {"failed": said(error), "seconds": 0.0, "late_seconds": late}
    whole = content == bytes([other % 251]) * CONTENT_BYTES
    why = "" if whole else f"the file of process {other} has other content than was written"
    return {"failed": why, "seconds": seconds, "late_seconds": late}


def appears(file: Path, wait_seconds: float) -> bool:
    """Whether a file is there, now or within the time."""
    until = time.monotonic() + wait_seconds
    while not file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def said(error: OSError) -> str:
    """What the system says."""
    return error.strerror or str(error)
