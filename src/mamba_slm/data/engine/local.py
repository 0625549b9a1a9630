"""The engine of one machine: processes of their own, replaced when they die."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.data.engine.attempt import Order
from mamba_slm.data.engine.engine import StageRunner
from mamba_slm.data.engine.here import HereEngine
from mamba_slm.data.engine.ledger import Ledger, Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.manifest import Manifest
from mamba_slm.data.engine.outcome import Outcome
from mamba_slm.data.engine.task import Quarantined, RunTasks, Task
from mamba_slm.data.engine.worker_process import WorkerProcess

POLL_SECONDS = 1.0


class LocalEngine:
    """Tasks on processes of this machine. One that dies or hangs is replaced, its task tried again.

    The processes are started when they are needed and stay for the next stage; `close`, or `with`, lets them go.
    """

    def __init__(
        self,
        workers: int,
        *,
        folder: Path | None = None,
        configuration: str = "",
        limits: EngineLimits | None = None,
        reporting: Reporting | None = None,
    ):
        """
        Args:
            workers: processes.
            folder: where manifest.jsonl is kept; None: nowhere, and what is set aside is tried again by a later run.
            configuration: fingerprint of everything that the result depends on; the folder must be of the same.

        Raises:
            ConfigError: there are no workers.
            DataError: the folder is of another configuration.
        """
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        self.num_workers = workers
        self.limits, self.reporting = limits or EngineLimits(), reporting or Reporting()
        self.manifest = Manifest(folder, configuration) if folder is not None else None
        self.workers: list[WorkerProcess] = []
        self.false_starts = 0
        """Workers in a row that ended before they began."""
        self.looked = time.monotonic()
        self.finalizer = weakref.finalize(self, close_all, self.workers)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and give the folder back. The engine can be used again."""
        close_all(self.workers)
        if self.manifest is not None:
            self.manifest.close()

    def for_stage(self, stage: str) -> RunTasks:
        """As `Engine.for_stage`."""
        return StageRunner(self, stage)

    def run(self, tasks: Sequence[Task], *, stage: str, may_quarantine: bool = False) -> tuple[Quarantined, ...]:
        """As `Engine.run`."""
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
        self.looked = time.monotonic()
        try:
            while not ledger.is_over:
                self.give_out(ledger)
                self.hear(ledger)
                ledger.sign()
        except BaseException:
            close_all(self.workers)  # what they still do is not wanted any more
            ledger.abandon()
            raise
        return ledger.result()

    def give_out(self, ledger: Ledger) -> None:
        """Give every idle worker a task, and start more workers while there is work for them."""
        while True:
            idle = next((worker for worker in self.workers if worker.index is None), None)
            if idle is None and len(self.workers) >= self.num_workers:
                return
            index = ledger.take()
            if index is None:
                return
            if idle is None:
                idle = WorkerProcess(self.limits)
                self.workers.append(idle)
            if not idle.give(index, Order.of(ledger, index)):
                ledger.put_back(index)
                self.over(ledger, idle, idle.died(), False)

    def hear(self, ledger: Ledger) -> None:
        """Wait a moment for what workers say, and see to those that say nothing."""
        by_connection = {worker.connection: worker for worker in self.workers}
        for connection in wait(list(by_connection), ledger.seconds_to_wait(POLL_SECONDS)):
            worker = by_connection[connection]  # type: ignore[index]
            outcome, goes_on = worker.receive()
            self.over(ledger, worker, outcome, goes_on)
        now = time.monotonic()
        if now - self.looked > self.limits.silent_seconds:  # this process was stopped, and they perhaps, too
            for worker in self.workers:
                worker.heard = now
        self.looked = now
        for worker in [worker for worker in self.workers if worker.index is not None and worker.is_silent]:
            self.over(ledger, worker, worker.fell_silent(), False)

    def over(self, ledger: Ledger, worker: WorkerProcess, outcome: Outcome | None, goes_on: bool) -> None:
        """Pass on how a task ended; replace a worker that cannot go on.

        Raises:
            SetupError: workers do not even begin.
        """
        index = worker.index
        if not goes_on:
            self.remove(worker)
        self.false_starts = 0 if worker.has_begun else self.false_starts + 1
        if outcome is None:
            return
        worker.index = None
        if not worker.has_begun and self.false_starts >= self.limits.deaths:
            assert outcome.failure is not None
            raise SetupError(
                f"worker processes cannot be started: {outcome.failure.text}",
                hint="what they said before is above; is there memory left, and room for more processes?",
            )
        if index is None:
            return
        if worker.has_begun:
            ledger.note(index, outcome)
        else:
            ledger.put_back(index)

    def remove(self, worker: WorkerProcess) -> None:
        """A worker is gone."""
        self.workers.remove(worker)
        worker.close()


def close_all(workers: list[WorkerProcess]) -> None:
    """End workers."""
    while workers:
        workers.pop().close()


def local_engine(
    workers: int,
    *,
    folder: Path | None = None,
    configuration: str = "",
    limits: EngineLimits | None = None,
    reporting: Reporting | None = None,
) -> HereEngine | LocalEngine:
    """The engine for so many workers, 1 being this process; the arguments are those of `LocalEngine`."""
    if workers == 1:
        return HereEngine(folder=folder, configuration=configuration, limits=limits, reporting=reporting)
    return LocalEngine(workers, folder=folder, configuration=configuration, limits=limits, reporting=reporting)
