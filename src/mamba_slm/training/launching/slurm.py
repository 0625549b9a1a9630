"""The script that Slurm runs: one task of srun per process, asked to save before its time is over, then requeued.

There is no torchrun in between: its agents would end processes 30 seconds after a signal, whatever they are saving.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError

TIME_LIMIT = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}")
"""Minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
FIRST_PORT, PORTS = 10_000, 20_000
"""Below the ports that Linux gives to outgoing connections (32,768 and above)."""


@dataclass(frozen=True, kw_only=True)
class SlurmJobConfig:
    """What is asked of Slurm for a training job; `--nproc` is the number of processes per node."""

    nodes: int = 1
    """Machines."""

    gpus_per_node: int = 0
    """GPUs of each machine, one process each; 0: processes compute on CPUs."""

    cpus_per_process: int | None = None
    """As sbatch's --cpus-per-task, and the threads of a process on CPUs. Unset: the cluster's default."""

    memory: str | None = None
    """As sbatch's --mem, per node; 0 is all of it. Unset: the cluster's default."""

    partition: str | None = None
    """Unset: the cluster's default."""

    account: str | None = None
    """Who is charged. Unset: the user's default."""

    qos: str | None = None
    """Quality of service. Unset: the user's default."""

    time_limit: str = "24:00:00"
    """As sbatch's --time; with requeue, a longer run goes on in a next part."""

    signal_seconds: int = 120
    """How long before the time limit the processes are asked to finish their step and save."""

    requeue: bool = True
    """Submit the job again, to continue, when the time limit or a pre-emption interrupts it."""

    options: tuple[str, ...] = ()
    """More options of sbatch, as `--constraint=h100`."""

    def __post_init__(self) -> None:
        for name, least in {"nodes": 1, "gpus_per_node": 0, "cpus_per_process": 1, "signal_seconds": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if not TIME_LIMIT.fullmatch(self.time_limit):
            raise ConfigError(
                f"time_limit {self.time_limit!r} is no time of Slurm", hint="write 90 (minutes), 24:00:00 or 2-12:00:00"
            )
        for option in self.options:
            if not option.startswith("-") or "\n" in option:
                raise ConfigError(f"{option!r} is no option of sbatch", hint="write it as --name=value")

    def processes_per_node(self, wanted: int | None) -> int:
        """Processes on each machine: one per GPU, else as many as were asked for.

        Raises:
            ConfigError: not one per GPU.
        """
        if self.gpus_per_node and wanted not in (None, self.gpus_per_node):
            raise ConfigError(
                f"--nproc {wanted} does not fit --slurm.gpus-per-node {self.gpus_per_node}",
                hint="leave out --nproc: each GPU gets one process",
            )
        return self.gpus_per_node or wanted or 1


def script_of(config: SlurmJobConfig, words: Sequence[str], *, run: Path, folder: Path, processes_per_node: int) -> str:
    """The script.

    Args:
        words: of `mamba-slm`, for each process.
        run: folder of the run, absolute.
        folder: where the job starts; relative paths in `words` begin there.
    """
    asked = {
        "--cpus-per-task": config.cpus_per_process,
        "--gpus-per-node": config.gpus_per_node or None,
        "--mem": config.memory,
        "--partition": config.partition,
        "--account": config.account,
        "--qos": config.qos,
    }
    options = [
        f"--job-name={run.name}",
        f"--chdir={folder}",
        f"--output={run}/slurm/%j.log",
        "--open-mode=append",
        f"--nodes={config.nodes}",
        f"--ntasks-per-node={processes_per_node}",
        f"--time={config.time_limit}",
        f"--signal=TERM@{config.signal_seconds}",
        "--requeue" if config.requeue else "--no-requeue",
        *(f"{option}={value}" for option, value in asked.items() if value is not None),
        *config.options,
    ]
    python, where = shlex.quote(sys.executable), shlex.quote(str(run))
    moments = f"{python} -m mamba_slm.training.launching.slurm_moments"
    each = (
        "export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID "
        f'LOCAL_WORLD_SIZE={processes_per_node}; exec "$@"'
    )
    srun = "srun --kill-on-bad-exit=1"
    if config.cpus_per_process:
        srun += f" --cpus-per-task={config.cpus_per_process}"  # srun does not take it from sbatch any more
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {shlex.quote(option)}" for option in options),
        "set -u",
        f"{moments} before {where} || exit",
        'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        f"export MASTER_ADDR MASTER_PORT=$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))",
        *(
            [f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{config.cpus_per_process}}}"]
            if config.cpus_per_process
            else []
        ),
        f"{srun} bash -c {shlex.quote(each)} mamba-slm {python} -m mamba_slm.cli.main {shlex.join(words)}",
        "code=$?",
        *([f"{moments} after {where} $code"] if config.requeue else []),
        "exit $code",
    ]
    return "\n".join(lines) + "\n"
