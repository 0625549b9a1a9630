"""The job that runs inside a Ray cluster: one process of `mamba-slm train` per piece of a placement group.

    python -m mamba_slm.training.launching.ray_ranks JOB.json

A machine that is lost ends all processes, and they are started again with `--resume`, elsewhere if need be. `ray job
stop` is passed on as SIGTERM; Ray itself kills a stopped job after RAY_JOB_STOP_WAIT_TIME_S (3 s), so stop a run with
`mamba-slm runs stop`, which waits for its checkpoint.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError, SetupError
from mamba_slm.core.optional import require
from mamba_slm.training.distributed.reserved import port_of, reserve_port
from mamba_slm.training.launching.job import wait_for_lock
from mamba_slm.training.launching.ray_job import RayJob

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""For the other processes to end by themselves, once one has."""
LOST = -1000
"""The code of processes whose machine is gone."""
ASKED = (-signal.SIGTERM, -signal.SIGINT)
DIES_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl."""


class Rank:
    """An actor: one process of the job, on the machine where Ray put it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.holder: socket.socket | None = None

    def host(self) -> str:
        """The address of this machine, for the others."""
        import ray

        return ray.util.get_node_ip_address()

    def free_port(self) -> int:
        """A port that nobody is given here before the process listens at it."""
        self.holder = reserve_port("")
        return port_of(self.holder)

    def begin(self, words: Sequence[str], variables: dict[str, str], folder: str) -> int:
        """Start the process; it does not outlive this one, whatever ends that."""
        library = ctypes.CDLL(None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mamba_slm.cli.main", *words],
            env={**os.environ, **variables},
            cwd=folder,
            preexec_fn=lambda: library.prctl(DIES_WITH_PARENT, signal.SIGKILL),
        )
        return self.process.pid

    def code(self) -> int | None:
        """Its exit code, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


class Ranks:
    """All processes of one start.

    Args:
        ray: the module.
    """

    def __init__(self, ray: Any, job: RayJob):
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.ray, self.job, self.remove = ray, job, remove_placement_group
        needs = {"CPU": float(job.cpus_per_process), **({"GPU": 1.0} if job.gpus else {})}
        self.group = placement_group([needs] * job.processes, strategy="PACK")
        if not self.group.wait(60 * job.wait_minutes):
            remove_placement_group(self.group)
            raise SetupError(
                f"the cluster had no room for {job.processes} x {needs} within {job.wait_minutes:g} minutes",
                hint="see what it has with `ray status`; use a smaller --nproc, or add machines",
            )
        actor = ray.remote(Rank)
        actors = [
            actor.options(
                num_cpus=job.cpus_per_process,
                num_gpus=1 if job.gpus else 0,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=index),
            ).remote()
            for index in range(job.processes)
        ]
        hosts = ray.get([one.host.remote() for one in actors])
        order = sorted(range(job.processes), key=lambda index: hosts[index])  # neighbours share a machine
        self.actors, self.hosts = [actors[index] for index in order], [hosts[index] for index in order]

    def begin(self) -> None:
        """Start all processes. Each sees its own GPU only, which makes it the first of its machine."""
        first = self.actors[0]
        shared = {
            "WORLD_SIZE": str(self.job.processes),
            "MASTER_ADDR": self.hosts[0],
            "MASTER_PORT": str(self.ray.get(first.free_port.remote())),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "OMP_NUM_THREADS": str(self.job.cpus_per_process),
        }
        self.ray.get(
            [
                actor.begin.remote(self.job.words, {**shared, "RANK": str(rank)}, self.job.folder)
                for rank, actor in enumerate(self.actors)
            ]
        )

    def send(self, number: int) -> None:
        """Send all a signal."""
        for actor in self.actors:
            actor.send.remote(number)

    def wait(self) -> int:
        """The exit code of the job, as `judge` says; LOST when a machine is gone."""
        failed_since: float | None = None
        while True:
            try:
                codes = self.ray.get([actor.code.remote() for actor in self.actors])
            except self.ray.exceptions.RayError as error:
                say(f"lost: {str(error).strip().splitlines()[0]}")
                return LOST
            if all(code is not None for code in codes):
                return judge(codes)
            if any(codes) and failed_since is None:
                failed_since = time.monotonic()
            if failed_since is not None and time.monotonic() - failed_since > GRACE_SECONDS:
                return judge(codes)
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End what still runs and give the room back."""
        for actor in self.actors:
            self.ray.kill(actor)
        self.remove(self.group)


def judge(codes: Sequence[int | None]) -> int:
    """The exit code of a job, from those of its processes; None is one that still runs.

    A process that somebody killed counts before those that only found it gone, and is a negative number.

    >>> judge([0, 0]), judge([130, 0]), judge([1, -9]), judge([None, 5]), judge([-15, 0])
    (0, 130, -9, 5, 143)
    """
    ended = [code for code in codes if code]
    killed = [code for code in ended if code < 0 and code not in ASKED]
    first = next(iter(killed + ended), 0)
    return 128 - first if first in ASKED else first


def run_job(job: RayJob, *, ray: Any) -> int:
    """Run the job to its end, through lost machines; returns the exit code."""
    for start in range(job.restarts + 1):
        if not wait_for_lock(Path(job.run), say=say):
            return 1
        ranks = Ranks(ray, job)
        try:
            ranks.begin()
            say(f"start {start + 1}: {job.processes} processes on {', '.join(sorted(set(ranks.hosts)))}")
            signal.signal(signal.SIGTERM, lambda number, frame, ranks=ranks: ranks.send(number))
            code = ranks.wait()
        except ray.exceptions.RayError as error:
            say(f"lost: {str(error).strip().splitlines()[0]}")
            code = LOST
        finally:
            ranks.close()
        if code >= 0:
            return code
        reason = "a process or its machine is gone" if code == LOST else f"a process was ended by signal {-code}"
        say(f"{reason}; {job.restarts - start} more starts")
    return 1


def say(text: str) -> None:
    """Into the log of the job."""
    print(f"mamba-slm: {text}", flush=True)


def main(words: Sequence[str]) -> int:
    """The command."""
    (file,) = words
    ray = require("ray", extra="ray", purpose="training on Ray")
    ray.init(log_to_driver=True, logging_level=logging.WARNING)
    try:
        return run_job(RayJob.from_file(Path(file)), ray=ray)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MambaSlmError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
