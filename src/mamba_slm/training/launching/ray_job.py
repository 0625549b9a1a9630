"""A training job of a Ray cluster: what is written down for it, and the command that submits it. Imports no Ray."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError, SetupError

PASSED_ON = ("PYTHONPATH", "MAMBA_SLM_HOME", "MAMBA_SLM_CACHE", "MAMBA_SLM_OFFLINE")
"""Variables that the processes get as they are here."""
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
NOT_YET = "No available agent"
"""What a cluster answers that has begun but whose head's agent has not reported yet; it took no job then."""
NO_AGENT_HINT = (
    "the agent on the head's machine is missing: another cluster there may have its port, 52365. Start the head with "
    "--dashboard-agent-listen-port=0 beside `ray start --head`; why it is missing stands in its dashboard_agent.log"
)
POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class RayJobConfig:
    """What is asked of a Ray cluster; `--nproc` is the number of processes on all its machines."""

    address: str | None = None
    """Of the cluster's dashboard, http://HOST:8265. Unset: RAY_API_SERVER_ADDRESS or RAY_ADDRESS."""

    gpus: bool = False
    """Give each process a GPU; else they compute on CPUs."""

    cpus_per_process: int = 1
    """CPUs that are kept for each process, and its threads."""

    restarts: int = 3
    """How often the processes are started again, to continue, after a machine was lost."""

    wait_minutes: float = 60.0
    """How long the job waits for room on the cluster."""

    def __post_init__(self) -> None:
        for name, least in {"cpus_per_process": 1, "restarts": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.wait_minutes > 0:
            raise ConfigError(f"wait_minutes must be > 0, got {self.wait_minutes}")


@dataclass(frozen=True, kw_only=True)
class RayJob:
    """What the job itself reads, from a file that all machines see."""

    words: tuple[str, ...]
    """Of `mamba-slm`, for each process."""

    folder: str
    """Where they start; relative paths begin there."""

    run: str
    processes: int
    gpus: bool
    cpus_per_process: int
    restarts: int
    wait_minutes: float

    @classmethod
    def of(cls, config: RayJobConfig, words: Sequence[str], *, run: Path, folder: Path, processes: int) -> RayJob:
        """The job that settings and words make."""
        settings = {name: value for name, value in asdict(config).items() if name != "address"}
        return cls(words=tuple(words), folder=str(folder), run=str(run), processes=processes, **settings)

    def to_json(self) -> str:
        """For its file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_file(cls, file: Path) -> RayJob:
        """The inverse of `to_json`."""
        content = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{**content, "words": tuple(content["words"])})


def submit_command(
    config: RayJobConfig, file: Path, *, name: str, environment: Mapping[str, str] | None = None
) -> list[str]:
    """The words that submit a job and return.

    Args:
        file: of the job, absolute.
        name: its submission id; a cluster takes each once.

    Raises:
        ConfigError: no cluster is named.
    """
    environment = os.environ if environment is None else environment
    address = config.address or next((environment[key] for key in ADDRESS_VARIABLES if environment.get(key)), None)
    if address is None:
        raise ConfigError("which Ray cluster?", hint="add --ray.address http://HOST:8265, or set RAY_ADDRESS")
    passed = {key: environment[key] for key in PASSED_ON if environment.get(key)}
    return [
        *("ray", "job", "submit", "--address", address, "--submission-id", name, "--no-wait"),
        *("--runtime-env-json", json.dumps({"env_vars": passed})),
        *("--", sys.executable, "-m", "mamba_slm.training.launching.ray_ranks", str(file)),
    ]


def submit(
    command: Sequence[str], *, patience_seconds: float = 180.0, say: Callable[[str], None] = lambda text: None
) -> None:
    """Run the words of `submit_command`.

    Args:
        patience_seconds: how long to ask again while the cluster says that it cannot take a job yet.
        say: is told, once, that it is being asked again.

    Raises:
        SetupError: there is no `ray` here, or the cluster refuses.
    """
    program = shutil.which(command[0]) or shutil.which(command[0], path=str(Path(sys.executable).parent))
    if program is None:
        raise SetupError("there is no ray on this machine", hint="pip install 'mamba-slm[ray]'")
    began = time.monotonic()
    for attempt in itertools.count():
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if not done.returncode:
            return
        lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        if NOT_YET not in reason:
            hint = "is the cluster's dashboard at that address, and is this: " + shlex.join(command)
            raise SetupError(f"ray job submit refuses: {reason}", hint=hint)
        if time.monotonic() - began > patience_seconds:
            raise SetupError(f"ray job submit refuses: {reason}", hint=NO_AGENT_HINT)
        if attempt == 0:
            say(f"the cluster cannot take a job yet; asking again for up to {patience_seconds:g} seconds")
        time.sleep(POLL_SECONDS)
