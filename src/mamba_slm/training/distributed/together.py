"""An error in one process, raised in all of them: the first says it, the others end quietly."""

from __future__ import annotations

from typing import Any

from mamba_slm.core.errors import CheckpointError, DiskFullError, MambaSlmError
from mamba_slm.training.distributed.world import FailedElsewhereError, World


def raise_together(world: World, error: Exception | None, *, doing: str) -> None:
    """Return where no process has an error. Called by all processes, each with its own or None.

    Args:
        doing: what the processes did, for the message about one of the others: "write its part of …".

    Raises:
        Exception: in the first process its own error, else one that names the process and says its reason.
        FailedElsewhereError: in the other processes.
    """
    if world.size == 1:
        if error is not None:
            raise error
        return
    found = [(rank, told) for rank, told in enumerate(world.gather(error and described(error))) if told is not None]
    if not found:
        return
    if world.is_first and error is not None:
        raise error
    rank, told = found[0]
    message = f"process {rank} of {world.size} could not {doing}: {told['message']}"
    if not world.is_first:
        raise FailedElsewhereError(message) from error
    raise (DiskFullError if told["disk_full"] else CheckpointError)(message, hint=told["hint"])


def described(error: Exception) -> dict[str, Any]:
    """An error as other processes can be told of it."""
    is_ours = isinstance(error, MambaSlmError)
    return {
        "message": error.message if is_ours else f"{type(error).__name__}: {error}",
        "hint": error.hint if is_ours else None,
        "disk_full": isinstance(error, DiskFullError),
    }
