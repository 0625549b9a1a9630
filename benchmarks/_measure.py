"""How the benchmarks measure: several ways to the same result, side by side in one run; time, and memory by storage."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mamba_slm.runs.machine import hardware_summary
from mamba_slm.runs.record import source_commit


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to compute the result of a case."""

    name: str
    run: Callable[[], object]
    inputs: Sequence[torch.Tensor] = ()
    """Leaves whose gradients are dropped before each call."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Ways to the same result, the one to compare with first."""

    name: str
    ways: Sequence[Way]


def measure(case: Case, *, rounds: int) -> list[dict[str, Any]]:
    """Time every way once per round, after one call each that is not counted; then measure memory.

    Returns:
        One row per way: `case`, `way`, `seconds` (median), `times_as_fast` (median over the rounds of the first way's
        time over this one's, so that a slow moment of the machine counts on both sides), and `peak_bytes`.
    """
    for way in case.ways:
        call(way)
    rounds_of_seconds = [[call(way) for way in case.ways] for _ in range(rounds)]
    return [
        {
            "case": case.name,
            "way": way.name,
            "seconds": statistics.median(seconds[i] for seconds in rounds_of_seconds),
            "times_as_fast": statistics.median(seconds[0] / seconds[i] for seconds in rounds_of_seconds),
            "peak_bytes": peak_bytes(way),
        }
        for i, way in enumerate(case.ways)
    ]


def call(way: Way) -> float:
    """Call a way once and return its seconds."""
    drop_gradients(way)
    start = clock()
    way.run()
    return clock() - start


def clock() -> float:
    """Seconds: CPU time with one thread, which other programs disturb less; with more threads the time that passes."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def clock_name() -> str:
    """What `clock` reads."""
    return "CPU time" if torch.get_num_threads() == 1 else "wall time"


def drop_gradients(way: Way) -> None:
    """Gradients of an earlier call would make this one add to them."""
    for tensor in way.inputs:
        tensor.grad = None


class LiveStorages(TorchDispatchMode):
    """Sums the storages that PyTorch operations return, from their creation until the last tensor on them is gone.

    What was there before is not counted, nor is scratch memory inside one kernel. The events of PyTorch's own allocator
    give the same peak for the scan.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[override]
        before = {address_of(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and address_of(leaf) not in self.known | before:
                self.add(leaf.untyped_storage())
        return result

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count a new storage until it is freed."""
        address, num_bytes = storage._cdata, storage.nbytes()
        self.known.add(address)
        self.live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self.forget, address, num_bytes)

    def forget(self, address: int, num_bytes: int) -> None:
        """A storage is gone."""
        self.known.discard(address)
        self.live_bytes -= num_bytes


def address_of(tensor: torch.Tensor) -> int:
    """Identity of the memory behind a tensor, the same for all its views."""
    return tensor.untyped_storage()._cdata


def peak_bytes(way: Way) -> int:
    """Most bytes that one call holds at a time beyond its inputs, gradients and results included."""
    drop_gradients(way)
    with LiveStorages() as storages:
        way.run()
    drop_gradients(way)
    return storages.peak_bytes


def surroundings() -> dict[str, Any]:
    """What the numbers depend on."""
    hardware = hardware_summary()
    return {
        "processor": hardware["processor"],
        "cores": hardware["cores"],
        "threads": torch.get_num_threads(),
        "clock": clock_name(),
        "torch": torch.__version__,
        "source": source_commit(),
    }
