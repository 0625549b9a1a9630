"""A job array of Slurm: the script, and the three commands that are asked about it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.data.engine.worker_process import ONE_THREAD

COMMAND_SECONDS = 60.0
JOB_ID = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """What is asked of Slurm for each element of the array, which is one process on one CPU."""

    partition: str | None = None
    """None: the cluster's default."""

    account: str | None = None
    """Who is charged; None: the user's default."""

    time_limit: str = "24:00:00"
    """As sbatch's --time. What an element has done when it ends stays done; the rest is submitted again."""

    memory: str = "4G"
    """As sbatch's --mem."""

    options: tuple[str, ...] = ()
    """More options of sbatch, as `--constraint=cpu`."""

    max_elements: int = 1000
    """Elements of one array at most; the cluster's MaxArraySize. With more tasks, an element does several."""

    poll_seconds: float = 5.0
    """How often results are looked for; squeue is asked every fourth time."""

    def __post_init__(self) -> None:
        if self.max_elements < 1:
            raise ConfigError(f"max_elements must be at least 1, got {self.max_elements}")
        for option in self.options:
            if not option.startswith("-") or "\n" in option:
                raise ConfigError(f"{option!r} is no option of sbatch", hint="write it as --name=value")


def script_of(config: SlurmConfig, *, name: str, folder: Path, elements: int, workers: int, checksum: str) -> str:
    """The script of an array.

    Args:
        folder: of the wave; its tasks are in it, results and logs go there.
        elements: how many.
        workers: elements that may run at a time.
        checksum: SHA-256 of the file with the tasks.
    """
    asked = {"--partition": config.partition, "--account": config.account}
    options = [
        f"--job-name={name}",
        f"--array=0-{elements - 1}%{workers}",
        f"--output={folder}/logs/%a.log",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--time={config.time_limit}",
        f"--mem={config.memory}",
        *(f"{option}={value}" for option, value in asked.items() if value is not None),
        *config.options,
    ]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        *(f"export {variable}=${{{variable}:-{value}}}" for variable, value in ONE_THREAD.items()),
        f"exec {shlex.quote(sys.executable)} -m mamba_slm.data.engine.array_element "
        f'{shlex.quote(str(folder))} {checksum} "$SLURM_ARRAY_TASK_ID"',
    ]
    return "\n".join(lines) + "\n"


def submit(script: Path, *, instead: str = "--engine local") -> str:
    """The id of the job that sbatch makes of a script.

    Args:
        instead: what one can choose where there is no Slurm.

    Raises:
        SetupError: sbatch is not there, or refuses.
    """
    answer = asked_of("sbatch", "--parsable", str(script), instead=instead)
    job = answer.stdout.strip().partition(";")[0]
    if answer.returncode or not JOB_ID.fullmatch(job):
        raise SetupError(
            f"sbatch refuses {script}: {(answer.stderr or answer.stdout).strip()}",
            hint="the #SBATCH lines are in that file; set partition, account, time_limit, memory or options",
        )
    return job


def is_alive(job: str) -> bool:
    """Whether anything of a job waits or runs. When Slurm does not answer, it may."""
    answer = asked_of("squeue", "--noheader", f"--jobs={job}")
    if answer.returncode == 0:
        return bool(answer.stdout.strip())
    return "invalid job id" not in answer.stderr.lower()


def cancel(job: str, element: int | None = None) -> None:
    """End a job or one element of it."""
    asked_of("scancel", job if element is None else f"{job}_{element}")


def asked_of(command: str, *arguments: str, instead: str = "--engine local") -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands.

    Raises:
        SetupError: it is not there.
    """
    if shutil.which(command) is None:
        raise SetupError(
            f"there is no {command} on this machine",
            hint=f"run this on a login node of the Slurm cluster, or choose {instead}",
        )
    try:
        return subprocess.run(
            [command, *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([command], 1, "", f"{command} gave no answer for {COMMAND_SECONDS:g} s")
