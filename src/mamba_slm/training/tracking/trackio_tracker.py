"""trackio: a database in its own folder on this machine (TRACKIO_DIR), which `trackio show` draws."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

from mamba_slm.core.optional import require
from mamba_slm.training.tracking.tracker import PROJECT, TrackedRun, Tracker, after


class TrackioTracker(Tracker):
    """Needs the extra `track`. It keeps every point it gets, so a resumed run begins after the last one it has."""

    name = "trackio"
    run: Any = None

    def open(self, run: TrackedRun, *, step: int) -> str:
        trackio = require("trackio", extra="track", purpose="logging to trackio")
        from trackio.sqlite_storage import SQLiteStorage

        name = f"{run.name}-{run.id}"  # its runs are told apart by name
        last = SQLiteStorage.get_max_step_for_run(PROJECT, name) if step else None
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is for results
            self.trackio, self.run = (
                trackio,
                trackio.init(
                    project=PROJECT,
                    name=name,
                    config=dict(run.settings),
                    resume="allow",
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                ),
            )
        self.first_step = after(last or 0, step)
        return f"project {PROJECT}, run {name}; see it with: trackio show --project {PROJECT}"

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self, *, ended_well: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.finish()  # not `run.finish`, after which it would print again when the process ends
