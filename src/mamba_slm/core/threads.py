"""How CPU threads wait for each other. Must be settled before torch is imported."""

from __future__ import annotations

import os


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has set OMP_WAIT_POLICY.

    A spinning thread keeps its core busy while the one it waits for may have none: when another program runs beside us,
    a training step then takes several times longer. Has no effect once torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
