"""The processes of a job, found from outside, as Linux shows them to whoever looks."""

import contextlib
from collections.abc import Callable
from pathlib import Path


def ranks_where(is_ours: Callable[[Path], bool]) -> dict[int, int]:
    """Rank -> process id of the processes with such a folder in /proc, which may vanish while it is looked at.

    Everything is read as bytes: other programs of the machine write there, too, and some of them cut a letter in two.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if is_ours(folder):
                entries = (folder / "environ").read_bytes().split(b"\0")
                ranks = [entry.removeprefix(b"RANK=") for entry in entries if entry.startswith(b"RANK=")]
                if ranks:
                    found[int(ranks[0])] = int(folder.name)
    return found


def parent_of(folder: Path) -> int:
    """The id of a process's parent; its own name, which stands in between, may hold anything."""
    return int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])


def words_of(folder: Path) -> list[bytes]:
    """The command line of a process."""
    return (folder / "cmdline").read_bytes().split(b"\0")
