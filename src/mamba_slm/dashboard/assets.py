"""The scripts and styles, read once: what is not among them has no address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Assets:
    """Contents by name."""

    contents: dict[str, bytes]
    version: str
    """Changes with any of them, so that browsers may keep them for ever."""

    @classmethod
    def load(cls) -> Assets:
        """What the package brings."""
        folder = files("mamba_slm.dashboard") / "assets"
        found = sorted(entry.name for entry in folder.iterdir() if entry.name.rpartition(".")[2] in TYPES)
        contents = {name: (folder / name).read_bytes() for name in found}
        digest = hashlib.sha256(b"\0".join(name.encode() + b"\0" + data for name, data in contents.items()))
        return cls(contents, digest.hexdigest()[:12])

    @staticmethod
    def media_type(name: str) -> str:
        """The type of a file."""
        return TYPES[name.rpartition(".")[2]]
