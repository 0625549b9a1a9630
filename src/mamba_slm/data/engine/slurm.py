"""The engine on Slurm: a stage is a job array, submitted again for what is left; all machines see the same files.

A killed engine leaves its job running; the next one for the same folder follows it instead of submitting another.
"""

from __future__ import annotations

import json
import pickle
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.data.engine.attempt import Order
from mamba_slm.data.engine.engine import StageRunner
from mamba_slm.data.engine.ledger import Ledger, Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.manifest import Manifest
from mamba_slm.data.engine.sign_files import SignFile, delete_sign_files
from mamba_slm.data.engine.slurm_job import SlurmConfig, cancel, is_alive, script_of, submit
from mamba_slm.data.engine.task import Quarantined, RunTasks, Task, delete_leftovers_of
from mamba_slm.data.engine.wave import Wave, read_wave

ASKED_EVERY = 4
"""Looks for results to one question to squeue."""


class SlurmEngine:
    """Tasks as elements of job arrays."""

    def __init__(
        self,
        workers: int,
        *,
        folder: Path,
        configuration: str = "",
        limits: EngineLimits | None = None,
        reporting: Reporting | None = None,
        slurm: SlurmConfig | None = None,
    ):
        """
        Args:
            workers: elements that run at a time, one CPU each.
            folder: for the manifest, scripts, results and logs; all machines see it, and where tasks read and write.
            configuration: fingerprint of everything that the result depends on.

        Raises:
            ConfigError: there are no workers.
            DataError, RunLockedError: as `Manifest`.
        """
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        self.num_workers, self.folder = workers, folder.absolute()
        self.limits, self.reporting = limits or EngineLimits(), reporting or Reporting()
        self.slurm = slurm or SlurmConfig()
        self.manifest = Manifest(folder, configuration)
        self.current = self.folder / "slurm" / "current.json"
        """The job that was submitted last, for who comes after a killed engine."""
        self.false_starts = 0

    def __enter__(self) -> SlurmEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder back."""
        self.manifest.close()

    def for_stage(self, stage: str) -> RunTasks:
        """As `Engine.for_stage`."""
        return StageRunner(self, stage)

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
            delete_leftovers=False,
        )
        if ledger.is_over:
            return ledger.result()
        running = self.left_running(stage)
        if running is None:
            delete_leftovers_of([tasks[index] for index in ledger.waiting])
        else:
            job, wave = running
            self.follow(ledger, job, wave, self.taken(ledger, set(wave.names)))
        while not ledger.is_over:
            indices = self.taken(ledger)
            if not indices:
                time.sleep(ledger.seconds_to_wait(self.slurm.poll_seconds))
                continue
            job, wave = self.submitted(ledger, indices)
            self.follow(ledger, job, wave, indices)
        return ledger.result()

    def left_running(self, stage: str) -> tuple[str, Wave] | None:
        """The job of a killed engine for this stage, while anything of it waits or runs; any other one ends."""
        found = json.loads(self.current.read_text()) if self.current.is_file() else None
        if found is not None and is_alive(found["job"]):
            if found["stage"] == stage:
                self.reporting.say(f"following job {found['job']}, which was submitted before")
                return found["job"], read_wave(self.current.parent / found["wave"])
            cancel(found["job"])
        shutil.rmtree(self.current.parent, ignore_errors=True)
        delete_sign_files(self.folder / "running")
        return None

    def taken(self, ledger: Ledger, names: set[str] | None = None) -> list[int]:
        """Every task that may be started now, or those of these names."""
        found: list[int] = []
        while (index := ledger.take()) is not None:
            found.append(index)
        wanted = [index for index in found if names is None or ledger.tasks[index].name in names]
        for index in reversed(sorted(set(found) - set(wanted))):
            ledger.put_back(index)
        return wanted

    def submitted(self, ledger: Ledger, indices: Sequence[int]) -> tuple[str, Wave]:
        """Write a wave of these tasks and submit it."""
        tasks = [ledger.tasks[index] for index in indices]
        name = f"{ledger.stage}.{uuid.uuid4().hex[:8]}"
        wave = Wave(
            folder=self.folder / "slurm" / name,
            names=tuple(task.name for task in tasks),
            orders=tuple(pickle.dumps(Order.of(ledger, index)) for index in indices),
            signs=tuple(self.folder / "running" / f"{name}.{task.name}" for task in tasks),
            limits=self.limits,
            elements=min(len(tasks), self.slurm.max_elements),
        )
        script = wave.folder / "array.sh"
        text = script_of(
            self.slurm,
            name=f"mamba-slm-{ledger.stage}",
            folder=wave.folder,
            elements=wave.elements,
            workers=self.num_workers,
            checksum=wave.write(),
        )
        write_text_atomic(script, text)
        job = submit(script)
        write_json_atomic(self.current, {"job": job, "stage": ledger.stage, "wave": name})
        return job, wave

    def follow(self, ledger: Ledger, job: str, wave: Wave, indices: Sequence[int]) -> None:
        """Wait until every task of the wave is over, or its job is."""
        position_of = {name: position for position, name in enumerate(wave.names)}
        left = {position_of[ledger.tasks[index].name]: index for index in indices}
        signs = {position: SignFile(wave.signs[position], self.limits) for position in left}
        try:
            for turn in range(10**18):
                alive = turn % ASKED_EVERY != 0 or is_alive(job)
                before = len(left)
                self.look(ledger, job, wave, left, signs)
                if not left:
                    break
                if not alive:
                    self.job_is_gone(ledger, wave, left, signs, nothing_done=before == len(wave.names))
                    break
                ledger.sign()
                time.sleep(self.slurm.poll_seconds)
        except BaseException:
            cancel(job)
            raise
        self.current.unlink(missing_ok=True)  # first, so that nobody follows what is half deleted
        shutil.rmtree(wave.folder, ignore_errors=True)

    def look(self, ledger: Ledger, job: str, wave: Wave, left: dict[int, int], signs: dict[int, SignFile]) -> None:
        """Note what is over, and end what gives no sign."""
        for position in list(left):
            outcome = wave.result(position)
            if outcome is None and signs[position].is_silent:
                cancel(job, position % wave.elements)
                outcome = signs[position].fell_silent()
            if outcome is not None:
                self.false_starts = 0
                ledger.note(left.pop(position), outcome)

    def job_is_gone(
        self, ledger: Ledger, wave: Wave, left: dict[int, int], signs: dict[int, SignFile], *, nothing_done: bool
    ) -> None:
        """What had begun has died; what had not is submitted again.

        Raises:
            SetupError: several jobs in a row have ended without having begun anything.
        """
        begun = [position for position in left if signs[position].path.exists()]
        if nothing_done and not begun:
            self.false_starts += 1
            if self.false_starts >= self.limits.attempts:
                raise SetupError(
                    f"jobs end before their tasks begin; what one said: {wave.log_of(next(iter(left)))}",
                    hint=f"the script is {wave.folder / 'array.sh'}",
                )
        for position, index in list(left.items()):
            if position in begun:
                ledger.note(index, signs[position].died(wave.log_of(position)))
            else:
                ledger.put_back(index)
