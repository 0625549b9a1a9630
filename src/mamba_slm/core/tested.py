"""Self-tests whose result stands for as long as nothing they depend on changes: kept as empty files in the cache.

A program that starts for a second should not spend a tenth of it on testing again what it tested a minute ago. Only
what passed is kept; `mamba-slm doctor` tests anew.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from mamba_slm.core.compiler import cache_folder


def has_passed(*depends_on: object) -> bool:
    """Whether a self-test that depends on these (their `repr`) has passed on this machine."""
    return passed_file(depends_on).is_file()


def keep_passed(*depends_on: object) -> None:
    """Remember that it passed; where the cache cannot be written, the next process tests again."""
    file = passed_file(depends_on)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError:
        return


def passed_file(depends_on: tuple[object, ...]) -> Path:
    """Where the result is kept: named by a hash of all it depends on."""
    digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:32]
    return cache_folder() / "tested" / digest


@functools.cache
def sources_digest(*folders: Path) -> str:
    """A hash of all Python and C++ sources below some folders: what a test of them depends on."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(file for suffix in ("py", "cpp", "h") for file in folder.rglob(f"*.{suffix}")):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
