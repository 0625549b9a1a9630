"""How CPU threads wait for each other. Must be settled before torch is imported."""

from __future__ import annotations

import os

SPIN_ITERATIONS = "5000"  # some ten microseconds: longer than most waits within an operation, shorter than a time slice


def spin_briefly() -> None:
    """Let libgomp's threads spin for a moment before they sleep, unless the user has chosen how they wait.

    A spinning thread keeps its core busy while the one it waits for may have none: by default, a training step takes
    several times longer as soon as another program runs beside it. Threads that sleep at once lose a fifth on an idle
    machine instead (docs/log.md). Has no effect once torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_ITERATIONS)
