"""What the routes need."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.actions import Actions
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.page.layout import Place
from mamba_slm.dashboard.reading.evaluations import Finder
from mamba_slm.dashboard.reading.library import Library
from mamba_slm.dashboard.reading.places import Places
from mamba_slm.dashboard.reading.series import SeriesOfRuns


@dataclass(frozen=True)
class Service:
    """The runs, and how to reach them."""

    config: DashboardConfig
    place: Place
    library: Library
    actions: Actions
    series: SeriesOfRuns = field(default_factory=SeriesOfRuns)
    folder: Path = field(default_factory=Path.cwd)
    """Where commands start: relative paths that a user types begin here."""

    def require_writing(self) -> None:
        """Refuse when nothing may be changed.

        Raises:
            UsageError: the dashboard is read only.
        """
        if self.config.is_read_only:
            raise UsageError("this dashboard only shows", hint="start it without --read-only")

    @functools.cached_property
    def places(self) -> Places:
        """Which files may be shown."""
        return Places(self.folder, (*self.config.homes, *self.config.data))

    @functools.cached_property
    def finder(self) -> Finder:
        """Which evaluations there are in the homes and where the dashboard was started."""
        return Finder((*self.library.homes, self.folder))

    @property
    def home(self) -> Path:
        """Where new runs go."""
        return self.library.homes[0]


Answer = dict[str, Any]
