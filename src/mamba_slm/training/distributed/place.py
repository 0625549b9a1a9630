"""Which of how many processes this is, as torchrun's variables say. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError

SIGN_IN = "MAMBA_SLM_RANKS"
"""Folder in which each process of `--nproc` writes its id, so that signals find it."""
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process among those of a job."""

    rank: int = 0
    """Number of this process, from 0; process 0 decides, speaks and writes."""

    size: int = 1
    """Processes of the job, on all machines."""

    local_rank: int = 0
    """Number of this process on its machine: the GPU it uses."""

    local_size: int = 1
    """Processes on this machine; torchrun calls it LOCAL_WORLD_SIZE, deepspeed LOCAL_SIZE."""

    address: str = "localhost"
    """Where process 0 listens."""

    port: int = 0
    has_agent: bool = False
    """Whether the launcher listens at the address for process 0, as torchrun does."""

    attempt: int = 0
    """How often the launcher has started these processes again."""


def is_one_of_many(environment: Mapping[str, str] | None = None) -> bool:
    """Whether a launcher (torchrun, or `--nproc`) started this process."""
    environment = os.environ if environment is None else environment
    return "RANK" in environment and "WORLD_SIZE" in environment


def find_place(environment: Mapping[str, str] | None = None) -> Place:
    """The place that a launcher gave this process; without a launcher, that of the only one.

    Raises:
        ConfigError: a variable is missing, no number, or they contradict each other.
    """
    environment = os.environ if environment is None else environment
    if not is_one_of_many(environment):
        return Place()
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"RANK and WORLD_SIZE are set, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not",
            hint="start with torchrun or --nproc, which set all of them, or unset RANK and WORLD_SIZE",
        )
    rank, size, port = (number(environment, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not 0 <= rank < size:
        raise ConfigError(f"RANK is {rank}; with WORLD_SIZE {size} it lies in [0, {size - 1}]")
    return Place(
        rank=rank,
        size=size,
        local_rank=number(environment, "LOCAL_RANK", rank),
        local_size=number(environment, "LOCAL_WORLD_SIZE", number(environment, "LOCAL_SIZE", size)),
        address=environment["MASTER_ADDR"],
        port=port,
        has_agent=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
    )


def sign_in() -> None:
    """Tell the launcher of `--nproc`, if there is one, which process this is; call it when signals may come."""
    folder = os.environ.get(SIGN_IN)
    if folder is None or not is_one_of_many() or not Path(folder).is_dir():
        return
    file = Path(folder) / f"rank-{find_place().rank}"
    writing = file.with_name(f".{file.name}")
    writing.write_text(str(os.getpid()))
    writing.rename(file)


def number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A variable as a whole number."""
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError as error:
        raise ConfigError(f"the variable {name} is {text!r}, not a whole number") from error


def rows_of_each(rows_per_step: int, size: int, *, context_tokens: int) -> int:
    """Rows of a step that each process gets.

    Raises:
        ConfigError: they do not divide; names numbers that do.
    """
    if rows_per_step % size == 0:
        return rows_per_step // size
    fewer, more = rows_per_step // size * size, -(-rows_per_step // size) * size
    tokens = " or ".join(str(rows * context_tokens) for rows in (fewer, more) if rows)
    sizes = [str(n) for n in range(1, rows_per_step + 1) if rows_per_step % n == 0]
    raise ConfigError(
        f"{rows_per_step} rows per step (batch_tokens / context_tokens) cannot be dealt to {size} processes evenly",
        hint=f"use --batch-tokens {tokens}, or a number of processes among {', '.join(sizes)}",
    )
