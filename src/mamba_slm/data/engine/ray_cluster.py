"""The engine on Ray Core: the same tasks, anywhere in a cluster; all data goes through files that all machines see."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.core.optional import require
from mamba_slm.data.engine.attempt import Order
from mamba_slm.data.engine.engine import StageRunner
from mamba_slm.data.engine.ledger import Ledger, Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.manifest import Manifest
from mamba_slm.data.engine.outcome import Outcome
from mamba_slm.data.engine.sign_files import SignFile, delete_sign_files, obeyed_with_signs
from mamba_slm.data.engine.task import Quarantined, RunTasks, Task
from mamba_slm.data.engine.worker_process import ONE_THREAD

POLL_SECONDS = 1.0
STARTS = 3
"""Ray gives its own processes 30 seconds to start, which may be too few where other programs compute."""
PASSED_ON = ("PYTHONPATH", "MAMBA_SLM_HOME", "MAMBA_SLM_CACHE", "MAMBA_SLM_OFFLINE")
"""Variables that workers get as they are here."""


class RayEngine:
    """Tasks on a Ray cluster, each on one of its CPUs. What Ray loses, we try again, so that it is counted."""

    def __init__(
        self,
        workers: int,
        *,
        folder: Path,
        configuration: str = "",
        limits: EngineLimits | None = None,
        reporting: Reporting | None = None,
        address: str | None = None,
    ):
        """
        Args:
            workers: tasks at a time.
            folder: for the manifest and signs of life; all machines see it, and where the tasks read and write.
            configuration: fingerprint of everything that the result depends on.
            address: of a cluster; None: what RAY_ADDRESS says, else a cluster of `workers` CPUs on this machine.

        Raises:
            ConfigError: there are no workers.
            MissingDependencyError: Ray is not installed.
            DataError, RunLockedError: as `Manifest`.
        """
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self.ray: Any = require("ray", extra="ray", purpose="running on Ray")
        self.num_workers, self.folder = workers, folder.absolute()
        self.address = address or os.environ.get("RAY_ADDRESS")
        self.limits, self.reporting = limits or EngineLimits(), reporting or Reporting()
        self.manifest = Manifest(folder, configuration)
        delete_sign_files(self.folder / "running")
        self.running: dict[Any, tuple[int, SignFile]] = {}
        self.has_begun = False

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; end it, if it was started here."""
        self.manifest.close()
        if self.has_begun:
            self.ray.shutdown()
            self.has_begun = False

    def for_stage(self, stage: str) -> RunTasks:
        """As `Engine.for_stage`."""
        return StageRunner(self, stage)

    def begin(self) -> None:
        """Join the cluster, or start one.

        Raises:
            SetupError: that is not possible.
        """
        if self.has_begun or self.ray.is_initialized():
            return
        variables = ONE_THREAD | {name: os.environ[name] for name in (*ONE_THREAD, *PASSED_ON) if name in os.environ}
        if not self.address:
            variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        here = {} if self.address else {"num_cpus": self.num_workers, "_node_ip_address": "127.0.0.1"}
        for left in reversed(range(1 if self.address else STARTS)):
            try:
                self.ray.init(
                    address=self.address or "local",
                    include_dashboard=False if not self.address else None,
                    log_to_driver=False,
                    logging_level="error",
                    runtime_env={"env_vars": variables},
                    **here,
                )
                break
            except Exception as error:  # Ray raises Exception itself when its time is over
                self.ray.shutdown()
                if left:
                    self.reporting.say(f"Ray did not start ({error}); trying again")
                    continue
                raise SetupError(
                    f"the Ray cluster at {self.address or 'this machine'} cannot be joined or started: {error}",
                    hint="is it up (ray status)? Without RAY_ADDRESS one is started on this machine",
                ) from error
        self.has_begun = True
        self.ray._private.worker.print_to_stdstream = say_on_stderr

    def run(self, tasks: Sequence[Task], *, stage: str, may_quarantine: bool = False) -> tuple[Quarantined, ...]:
        """As `Engine.run`."""
        self.manifest.open()
        ledger = Ledger(
            tasks,
            stage=stage,
            may_quarantine=may_quarantine,
            limits=self.limits,
            reporting=self.reporting,
            manifest=self.manifest,
        )
        if ledger.is_over:
            return ledger.result()
        self.begin()
        try:
            while not ledger.is_over:
                self.give_out(ledger)
                self.hear(ledger)
                ledger.sign()
        except BaseException:
            for reference in self.running:
                self.ray.cancel(reference, force=True)
            self.running.clear()
            ledger.abandon()
            raise
        return ledger.result()

    def give_out(self, ledger: Ledger) -> None:
        """Submit as many tasks as may run at a time."""
        remote = self.ray.remote(num_cpus=1, max_retries=0)(obeyed_with_signs)
        while len(self.running) < self.num_workers:
            index = ledger.take()
            if index is None:
                return
            task = ledger.tasks[index]
            path = self.folder / "running" / f"{ledger.stage}.{task.name}.{ledger.attempts[index] + 1}"
            path.unlink(missing_ok=True)
            reference = remote.remote(pickle.dumps(Order.of(ledger, index)), self.limits, path)
            self.running[reference] = (index, SignFile(path, self.limits))

    def hear(self, ledger: Ledger) -> None:
        """Wait a moment for what ends, and see to what gives no sign."""
        timeout = ledger.seconds_to_wait(POLL_SECONDS)
        if not self.running:
            time.sleep(timeout)
            return
        for reference in self.ray.wait(list(self.running), timeout=timeout)[0]:
            index, signs = self.running.pop(reference)
            ledger.note(index, self.outcome_of(reference, signs))
        for reference, (index, signs) in list(self.running.items()):
            if signs.is_silent:
                del self.running[reference]
                self.ray.cancel(reference, force=True)
                ledger.note(index, signs.fell_silent())

    def outcome_of(self, reference: Any, signs: SignFile) -> Outcome:
        """How an attempt ended."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:  # the worker or its machine is gone
            return signs.died(str(error).strip().partition("\n")[0])


def say_on_stderr(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    """Instead of Ray's own function, which prints what it tells about dead workers where results belong."""
    for line in data["lines"]:
        print(f"(ray) {line}", file=sys.stderr, flush=True)
