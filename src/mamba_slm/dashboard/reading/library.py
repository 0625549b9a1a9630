"""The runs of all homes, each under a key that fits into an address: number of the home, name of the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.runs.layout import RunDirectory, is_run, list_runs


@dataclass(frozen=True)
class RunKey:
    """Which run."""

    home: int
    """Position in the list of homes, from 0."""
    name: str
    """Of its folder."""

    def __str__(self) -> str:
        return f"{self.home}/{self.name}"


class Library:
    """The homes, and the runs that are directly inside them."""

    def __init__(self, homes: Sequence[Path]):
        self.homes = tuple(homes)

    def runs(self) -> list[tuple[RunKey, RunDirectory]]:
        """All runs, newest name first."""
        found = [
            (RunKey(number, run.path.name), run) for number, home in enumerate(self.homes) for run in list_runs(home)
        ]
        return sorted(found, key=lambda pair: (pair[0].name, -pair[0].home), reverse=True)

    def find(self, home: int, name: str) -> RunDirectory:
        """The run of a key. Only names of folders directly inside a home are known, so no path leads elsewhere.

        Raises:
            UnknownNameError: there is none.
        """
        if 0 <= home < len(self.homes) and name not in ("", ".", "..") and not set(name) & set("/\\\0"):
            folder = self.homes[home] / name
            if is_run(folder):
                return RunDirectory(folder)
        raise UnknownNameError("run", name, [key.name for key, _ in self.runs() if key.home == home])
