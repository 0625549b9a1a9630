"""What happened in a run, said to people and kept in events.jsonl: spikes, overflows, resumptions, …"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter


class Events:
    """Adds rows to events.jsonl, in the process that `writes`; in others it is silent."""

    def __init__(self, run: RunDirectory, say: Callable[[str], None], *, writes: bool = True):
        self.run, self.say, self.writes = run, say, writes

    def add(self, step: int, kind: str, message: str, **facts: Any) -> None:
        """Say and keep one event.

        Args:
            step: optimiser steps taken when it happened.
            kind: "spike", "diverged", "overflow", "damaged checkpoint", "resumed", "changed", "mixture" or "out of
                memory".
            facts: JSON-able, become further keys of the row.
        """
        if not self.writes:
            return
        self.say(message)
        with MetricsWriter(self.run.events_file) as writer:
            writer.append({"kind": kind, "step": step, "message": message, **facts})
