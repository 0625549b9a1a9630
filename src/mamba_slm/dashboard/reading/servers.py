"""Servers that were started from here: jobs that run `mamba-slm serve`, and the address that each printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.reading.facts import last_line
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.runs.jobs import Job, find_job, list_jobs

PRINTED = re.compile(r"^serving (.+) at (http://\S+)/v1, stop with Ctrl-C$", flags=re.MULTILINE)
ALIVE = ("waiting", "running")
HEAD_BYTES = 262_144
"""Of a log, in which the address stands: before the lines about requests, of which there may be any number."""


@dataclass(frozen=True)
class ModelServer:
    """A job that serves a model."""

    home: int
    job: Job

    @property
    def printed(self) -> tuple[str, str] | None:
        """The name of its model and where it answers; None while it loads, and when it has ended."""
        found = PRINTED.search(log_head(self.job.log_file)) if self.job.state == "running" else None
        return (found[1], found[2]) if found else None

    @property
    def address(self) -> str | None:
        """Where it answers; None while it loads."""
        return self.printed[1] if self.printed else None

    def row(self) -> dict[str, Any]:
        """For the page."""
        name, address = self.printed or (None, None)
        state = "ready" if address else "loading" if self.job.state in ALIVE else "ended"
        return {
            "home": self.home,
            "job": self.job.id,
            "run": Path(self.job.run).name if self.job.run else None,
            "model": next(iter(self.job.words[2:]), ""),
            "name": name,
            "state": state,
            "address": address,
            "command": self.job.command,
            "last_line": last_line(self.job.log_file),
            "exit_code": self.job.exit_code,
        }


def log_head(path: Path) -> str:
    """The beginning of a log; empty when there is none."""
    try:
        with open_plain(path) as file:
            return file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""


def servers_in(homes: Sequence[Path]) -> list[ModelServer]:
    """All of them, newest first; ended ones only when they ended badly."""
    found = [
        ModelServer(number, job)
        for number, home in enumerate(homes)
        for job in list_jobs(home)
        if job.words[1:2] == ("serve",) and (job.state in ALIVE or (job.state == "ended" and job.has_failed))
    ]
    return sorted(found, key=lambda server: server.job.created, reverse=True)


def server_of(homes: Sequence[Path], home: object, id: object) -> ModelServer:
    """The server of a job.

    Raises:
        UsageError: there is none.
    """
    if isinstance(home, int) and not isinstance(home, bool) and 0 <= home < len(homes) and isinstance(id, str):
        server = ModelServer(home, find_job(homes[home], id))
        if server.job.words[1:2] == ("serve",):
            return server
    raise UsageError("there is no such server")
