"""Opening what lies in a run's folder: regular files only, since a pipe or device could keep us waiting for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path, *, follows: bool = False) -> BinaryIO:
    """A regular file for reading.

    Args:
        follows: also where it is a link, as in folders of downloaded models; a link in the folder of a run could lead
            to any file of the machine.

    Raises:
        OSError: it is not there, not ours to read, or something else than a file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return open(descriptor, "rb")
