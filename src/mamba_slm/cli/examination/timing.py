"""Small measurements: ways to the same result side by side, so that a slow moment counts on all sides."""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping

SHARE_PIECE = bytes(1 << 16)  # hashing that much releases the interpreter's lock


def seconds_of(
    ways: Mapping[str, Callable[[], object]], *, rounds: int, limit_seconds: float
) -> dict[str, list[float]]:
    """Call every way once uncounted, then once per round; seconds by way and round.

    Args:
        limit_seconds: no further round begins after that; the first one always runs, however slow the machine is.
    """
    end = time.perf_counter() + limit_seconds
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds):
        if round_number and time.perf_counter() > end:
            break
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def times_as_fast(seconds: Mapping[str, list[float]], way: str, *, than: str) -> float:
    """How many times as fast one way is as another: the median over the rounds of their ratio.

    >>> times_as_fast({"a": [1.0, 3.0], "b": [0.5, 1.5]}, "b", than="a")
    2.0
    """
    return statistics.median(other / own for own, other in zip(seconds[way], seconds[than], strict=True))


def share_of_cores(cores: int, *, seconds: float = 0.3) -> float:
    """The share of all cores' time that a program with a busy thread per core gets now; 1 on an idle machine.

    What other programs, other guests of the same host and a container's limit take is missing.
    """
    shares: list[float] = []

    def work() -> None:
        start, own = time.perf_counter(), time.thread_time()
        while time.perf_counter() - start < seconds:
            hashlib.sha256(SHARE_PIECE)
        shares.append((time.thread_time() - own) / (time.perf_counter() - start))

    threads = [threading.Thread(target=work) for _ in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return min(1.0, statistics.fmean(shares))
