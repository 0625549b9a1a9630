"""How busy an engine is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mamba_slm.serving.engine.task import Task


@dataclass(frozen=True)
class Load:
    """As of its last step."""

    running: int = 0
    """Requests with a slot."""
    waiting: int = 0
    """All others, those below included."""
    kv_usage: float = 0.0
    """Share of the blocks that running requests hold."""
    suspended: int = 0
    """Requests that gave their slot back for now."""
    deferred: int = 0
    """Requests that wait for another to read what both begin with."""
    adapters_running: frozenset[str] = frozenset()
    """Keys of the adapters that running requests use."""
    adapters_waiting: frozenset[str] = frozenset()
    """Keys of those that the others want."""


def load_of(tasks: Iterable[Task], *, kv_usage: float) -> Load:
    """What all requests of an engine amount to."""
    running = suspended = deferred = others = 0
    used, wanted = set[str](), set[str]()
    for task in tasks:
        if task.request.adapter:
            (wanted if task.sequence is None else used).add(task.request.adapter)
        if task.sequence is not None:
            running += 1
        elif task.parked is not None:
            suspended += 1
        elif task.waits_for is not None:
            deferred += 1
        else:
            others += 1
    return Load(
        running, others + suspended + deferred, kv_usage, suspended, deferred, frozenset(used), frozenset(wanted)
    )
