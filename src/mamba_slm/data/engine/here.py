"""The engine without workers: this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from mamba_slm.data.engine.attempt import described
from mamba_slm.data.engine.engine import StageRunner
from mamba_slm.data.engine.ledger import Ledger, Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.manifest import Manifest
from mamba_slm.data.engine.outcome import Outcome, failure_of
from mamba_slm.data.engine.task import Quarantined, RunTasks, Task

POLL_SECONDS = 1.0


class HereEngine:
    """One task after the other in this process: nothing to start, and nobody left when it dies."""

    def __init__(
        self,
        *,
        folder: Path | None = None,
        configuration: str = "",
        limits: EngineLimits | None = None,
        reporting: Reporting | None = None,
    ):
        """As `LocalEngine`."""
        self.limits, self.reporting = limits or EngineLimits(), reporting or Reporting()
        self.manifest = Manifest(folder, configuration) if folder is not None else None

    def __enter__(self) -> HereEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder back. The engine can be used again."""
        if self.manifest is not None:
            self.manifest.close()

    def for_stage(self, stage: str) -> RunTasks:
        """As `Engine.for_stage`."""
        return StageRunner(self, stage)

    def run(self, tasks: Sequence[Task], *, stage: str, may_quarantine: bool = False) -> tuple[Quarantined, ...]:
        """As `Engine.run`; errors are raised with their own traceback."""
        if self.manifest is not None:
            self.manifest.open()
        ledger = Ledger(
            tasks,
            stage=stage,
            may_quarantine=may_quarantine,
            limits=self.limits,
            reporting=self.reporting,
            manifest=self.manifest,
        )
        while not ledger.is_over:
            index = ledger.take()
            if index is None:
                time.sleep(ledger.seconds_to_wait(POLL_SECONDS))
                continue
            start = time.monotonic()
            try:
                tasks[index].run()
                record = described(tasks[index].out) if ledger.manifest is not None else None
                ledger.note(index, Outcome(seconds=time.monotonic() - start, record=record))
            except Exception as error:
                if index not in ledger.running:
                    raise  # it is the ledger's
                try:
                    ledger.note(index, Outcome(seconds=time.monotonic() - start, failure=failure_of(error)))
                except Exception:
                    raise error from None
        return ledger.result()
