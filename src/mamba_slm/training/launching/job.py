"""A training command as a job: where its run lies, and the same words for each of its processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mamba_slm.core.errors import UsageError
from mamba_slm.runs.control import wait_until_free
from mamba_slm.runs.layout import RunDirectory, is_run
from mamba_slm.runs.lock import STALE_SECONDS, live_owner

NOT_FOR_RANKS = ("--dry-run", "--json")


def begun(run: str | Path) -> RunDirectory | None:
    """The run at a folder that `--resume auto` continues; None where nothing has begun that could be continued."""
    directory = RunDirectory(Path(run))
    return directory if is_run(directory.path) and directory.config_file.is_file() else None


def require_new_or_resumed(run: str | None, *, is_resumed: bool) -> Path:
    """The folder of the run of a job, before it is submitted.

    Raises:
        UsageError: none is named, or one is in the way.
    """
    if run is None:
        raise UsageError(
            "a job that may start several times needs one folder",
            hint="add --out DIR, on a disk that all machines see",
        )
    if not is_resumed and begun(run) and RunDirectory(Path(run)).latest() is not None:
        raise UsageError(
            f"{run} already holds a run", hint=f"continue it: --resume {run}; or choose another folder with --out"
        )
    return Path(run).absolute()


def words_for_ranks(words: Sequence[str], *, is_resumed: bool) -> list[str]:
    """The command line for each process of the job, at its first start and at every later one.

    >>> words_for_ranks(["train", "nano", "--out", "a", "--dry-run"], is_resumed=False)
    ['train', 'nano', '--out', 'a', '--resume', 'auto']
    """
    kept = [word for word in words if word not in NOT_FOR_RANKS]
    return kept if is_resumed else [*kept, "--resume", "auto"]


def wait_for_lock(run: Path, *, say: Callable[[str], None], timeout_seconds: float = STALE_SECONDS + 30.0) -> bool:
    """Whether nobody owns the run, now or within the time.

    A machine that was taken away may have left the run locked, which nobody elsewhere can know before it has given no
    sign of life for a while.
    """
    directory = RunDirectory(run)
    owner = live_owner(directory) if directory.lock_file.exists() else None
    if owner is None:
        return True
    say(f"{run} is locked by {owner.describe()}: waiting up to {timeout_seconds:.0f} s for a sign that it is gone")
    if wait_until_free(run, timeout_seconds=timeout_seconds):
        return True
    say(f"{run} is still in use: this job ends")
    return False
