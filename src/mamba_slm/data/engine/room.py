"""Whether what will be written fits where it goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from mamba_slm.core.errors import DiskFullError
from mamba_slm.core.units import format_bytes


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what will not fit.

    Raises:
        DiskFullError: less than that is free where the folder is, or will be.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise DiskFullError(
            f"about {format_bytes(needed_bytes)} will be written to {folder}, where {format_bytes(free)} are free",
            hint="free some space, or choose another folder with --out",
        )
