"""Wait quietly until process 0 listens. PyTorch's store would print a page of stack frames for each attempt."""

from __future__ import annotations

import os
import socket
import time

from mamba_slm.core.errors import RankLostError
from mamba_slm.core.network import LOOPBACK
from mamba_slm.core.units import format_seconds
from mamba_slm.training.distributed.place import Place

ATTEMPT_SECONDS = 5.0
PAUSE_SECONDS = 0.1
WHERE = (
    "MASTER_ADDR must be an address of the machine of process 0, MASTER_PORT a free port there, and no firewall "
    "between them"
)


def wait_until_reachable(place: Place, *, timeout_seconds: float) -> None:
    """Return once something listens at the address of the job; a name may become known and a port open meanwhile.

    Raises:
        RankLostError: nothing did within the time; says what the last attempt met.
    """
    if os.environ.get("MAMBA_SLM_OFFLINE") == "1" and not place.address.startswith(LOOPBACK):
        return  # Python's connections are forbidden, those of PyTorch's store are not
    until = time.monotonic() + timeout_seconds
    while True:
        left = until - time.monotonic()
        try:
            socket.create_connection((place.address, place.port), timeout=max(0.1, min(ATTEMPT_SECONDS, left))).close()
            return
        except OSError as error:
            if time.monotonic() + PAUSE_SECONDS > until:
                raise unreachable(place, timeout_seconds, error.strerror or str(error)) from error
        time.sleep(PAUSE_SECONDS)


def unreachable(place: Place, timeout_seconds: float, why: str) -> RankLostError:
    """Process 0 cannot listen, or another one cannot reach it."""
    doing = "listen at" if place.rank == 0 and not place.has_agent else "reach process 0 at"
    return RankLostError(
        f"process {place.rank} of {place.size} could not {doing} {place.address}:{place.port} "
        f"within {format_seconds(timeout_seconds)} ({why})",
        hint=WHERE,
    )
