"""What the C library does with memory that a program frees: give it back to the system, or keep it for later."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
LARGEST_KEPT_BYTES = 2**30
KEPT_AT_THE_END_BYTES = 2**31 - 1
"""The most that glibc's mallopt can be told: next to nothing goes back."""
OWN_LARGEST_KEPT_BYTES = 2**25
"""What glibc arrives at by itself once a program has freed large blocks."""
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
OTHER_ALLOCATORS = ("malloc", "hoard")  # as in libjemalloc.so, libtcmalloc.so, libmimalloc.so


@dataclass(frozen=True, kw_only=True)
class FreedMemory:
    """What happens to freed memory, and why; `str` is a line to print."""

    is_kept: bool
    reason: str

    def __str__(self) -> str:
        return f"freed memory is {'kept' if self.is_kept else 'left to the allocator'} ({self.reason})"


def keep_freed_memory() -> FreedMemory:
    """Let glibc keep large blocks that are freed for the next ones, unless the user has chosen how malloc works.

    By default glibc gives every block from 32 MiB on (at first from 128 KiB on) back to the system at once. The next
    one costs a fault per page of 4 KiB, in which the system zeroes it: 5 to 7% of a training step, which frees and asks
    for the same sizes again and again. For programs that do the same until they end: what was needed once stays theirs.
    """
    chosen = users_choice()
    if chosen is not None:
        return FreedMemory(is_kept=False, reason=f"{chosen} is set")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or not is_glibc():
        return FreedMemory(is_kept=False, reason="the C library is not glibc")
    accepted = mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_AT_THE_END_BYTES)
    if not accepted:
        return FreedMemory(is_kept=False, reason="this glibc refuses the setting")
    return FreedMemory(is_kept=True, reason="new memory costs time; MALLOC_TRIM_THRESHOLD_ or GLIBC_TUNABLES overrule")


def stop_keeping_freed_memory() -> None:
    """Undo `keep_freed_memory` where it has had an effect, and give back what is free now."""
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_THRESHOLD, OWN_LARGEST_KEPT_BYTES)
    library.mallopt(M_TRIM_THRESHOLD, 2 * OWN_LARGEST_KEPT_BYTES)
    give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Give back what is free now, where the C library is glibc; others do that by themselves or not at all."""
    if os.name == "posix" and is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[FreedMemory]:
    """`keep_freed_memory`, and at the end `stop_keeping_freed_memory`, for a process that goes on to other things."""
    found = keep_freed_memory()
    try:
        yield found
    finally:
        if found.is_kept:
            stop_keeping_freed_memory()


def users_choice() -> str | None:
    """The environment variable with which the user has chosen an allocator or its settings, if one is set."""
    for name in VARIABLES:
        if name in os.environ:
            return name
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return "GLIBC_TUNABLES"
    if any(name in os.environ.get("LD_PRELOAD", "") for name in OTHER_ALLOCATORS):
        return "LD_PRELOAD"
    return None


def is_glibc() -> bool:
    """Whether the C library under this process is glibc; musl has no mallopt, other systems have other libraries."""
    return hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
