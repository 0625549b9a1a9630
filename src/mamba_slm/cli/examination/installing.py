"""Commands that install something, as they must be typed for this Python and this system."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

PACKAGE = "mamba-slm"
SYSTEM_MANAGERS = {
    "apt-get": "apt-get install",
    "dnf": "dnf install",
    "zypper": "zypper install",
    "pacman": "pacman -S",
}
"""Program that Linux distributions install with -> how it is called; the first one found counts."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where this program came from, and which program installs into its Python."""

    source: Literal["checkout", "index", "file"]
    """An editable checkout; a package index; a wheel or a folder."""

    folder: Path | None = None
    """Of the checkout."""

    installer: tuple[str, ...]
    """The words before the requirements, such as ("pip", "install")."""

    def extra(self, name: str, requirements: Sequence[str]) -> str:
        """The command that installs an extra; `requirements` are what it stands for."""
        if self.source == "file":  # no index may know the package, but all know what it needs
            return self.packages(requirements)
        if self.source == "index":
            return typed([*self.installer, f"{PACKAGE}[{name}]"])
        return typed([*self.installer, *self.constraints(), "-e", f"{self.place()}[{name}]"])

    def packages(self, requirements: Sequence[str], *, again: bool = False) -> str:
        """The command that installs packages, in the versions of the checkout where there is one.

        Args:
            again: install what is there once more.
        """
        flags = ["--reinstall" if "uv" in self.installer else "--force-reinstall"] if again else []
        return typed([*self.installer, *flags, *self.constraints(), *requirements])

    def itself(self) -> str:
        """The command that brings the package and everything it needs up to date."""
        if self.source == "checkout":
            return typed([*self.installer, *self.constraints(), "-e", self.place()])
        return typed([*self.installer, "--upgrade", PACKAGE])

    def constraints(self) -> list[str]:
        """The flag that pins versions, where the checkout has a list of them."""
        file = None if self.folder is None else self.folder / "constraints.txt"
        return ["-c", shorter(file)] if file is not None and file.is_file() else []

    def place(self) -> str:
        """The checkout as one types it."""
        assert self.folder is not None
        return shorter(self.folder)


def installation() -> Installation:
    """How the package that runs now was installed. Without metadata (sources on the path) it counts as a file."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return Installation(source="file", installer=installer_words(""))
    words = installer_words((distribution.read_text("INSTALLER") or "").strip())
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin:
        return Installation(source="index", installer=words)
    if origin.get("dir_info", {}).get("editable"):
        folder = Path(urllib.parse.unquote(urllib.parse.urlparse(origin["url"]).path))
        return Installation(source="checkout", folder=folder, installer=words)
    return Installation(source="file", installer=words)


def installer_words(installed_by: str) -> tuple[str, ...]:
    """The words that install into the Python that runs now: uv where it made the environment, else its own pip."""
    has_pip = PathFinder.find_spec("pip") is not None  # setuptools' own finder would swap distutils, and warn of it
    if shutil.which("uv") and (installed_by == "uv" or not has_pip):
        is_active = os.environ.get("VIRTUAL_ENV") == sys.prefix
        return ("uv", "pip", "install", *(() if is_active else ("--python", shorter(Path(sys.executable)))))
    if refuses_pip():
        return ("python3", "-m", "venv", ".venv", "&&", ".venv/bin/pip", "install")
    pip = shutil.which("pip")
    if pip and Path(pip).parent == Path(sys.executable).parent:
        return ("pip", "install")
    return (shorter(Path(sys.executable)), "-m", "pip", "install")


def refuses_pip() -> bool:
    """Whether this is the system's own Python, which leaves its packages to the system (PEP 668)."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return sys.prefix == sys.base_prefix and marker.is_file()


def typed(words: Sequence[str]) -> str:
    """A command line from its words, quoted where the shell would take them apart; `&&` stays.

    >>> typed(["pip", "install", "zstandard>=0.23"])
    "pip install 'zstandard>=0.23'"
    """
    return " ".join(word if word == "&&" else shlex.quote(word) for word in words)


def shorter(path: Path) -> str:
    """A path as one types it here: relative where it lies in the current directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


def system_command(packages: dict[str, str], *, otherwise: str) -> str:
    """The command of this system's package manager.

    Args:
        packages: what to install, by name of the manager: keys of `SYSTEM_MANAGERS`, and "macOS" for a whole command.
        otherwise: what to say where no known manager is found.
    """
    if platform.system() == "Darwin":
        return packages["macOS"]
    for manager, call in SYSTEM_MANAGERS.items():
        if manager in packages and shutil.which(manager):
            return f"{'' if os.geteuid() == 0 else 'sudo '}{call} {packages[manager]}"
    return otherwise
