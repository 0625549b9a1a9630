"""What the routes need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.page.layout import Place
from mamba_slm.dashboard.reading.library import Library
from mamba_slm.dashboard.reading.series import SeriesOfRuns

Planner = Callable[[list[str]], dict[str, Any]]
"""Takes the words after `mamba-slm train`; gives settings, model and estimate, or raises what the command would."""


@dataclass(frozen=True)
class Service:
    """The runs, and how to reach them."""

    config: DashboardConfig
    place: Place
    library: Library
    plan_training: Planner
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

    @property
    def home(self) -> Path:
        """Where new runs go."""
        return self.library.homes[0]


Answer = dict[str, Any]
