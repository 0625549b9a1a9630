"""Put the load of a level on a server: so many requests at once, or so many in a second."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from mamba_slm.evaluation.load.arrivals import arrival_times
from mamba_slm.evaluation.load.connection import Connections
from mamba_slm.evaluation.load.sample import Sample, ask
from mamba_slm.evaluation.load.settings import Level, LoadSettings

PATHS = {"completions": "/completions", "chat": "/chat/completions"}
GREEDY = {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}

MakeRequest = Callable[[int], dict[str, Any]]
"""The body of the request of that number."""


async def at_once(
    connections: Connections, path: str, make: MakeRequest, count: int, *, concurrency: int, timeout_seconds: float
) -> list[Sample]:
    """`count` requests, `concurrency` of them at any time, as long as there are so many left."""
    numbers = iter(range(count))
    samples: list[Sample] = []

    async def client(numbers: Iterator[int]) -> None:
        for number in numbers:
            body = make(number)
            samples.append(await ask(connections, path, body, due=time.perf_counter(), timeout_seconds=timeout_seconds))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, count)):
            group.create_task(client(numbers))
    return samples


async def at_times(
    connections: Connections, path: str, make: MakeRequest, times: list[float], *, timeout_seconds: float
) -> list[Sample]:
    """A request at each of the times, whatever became of those before it."""
    bodies = [make(number) for number in range(len(times))]
    start = time.perf_counter()

    async def later(due: float, body: dict[str, Any]) -> Sample:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return await ask(connections, path, body, due=due, timeout_seconds=timeout_seconds)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(later(start + at, body)) for at, body in zip(times, bodies, strict=True)]
    return [task.result() for task in tasks]


async def run_level(
    connections: Connections, settings: LoadSettings, level: Level, make: Callable[[str, int], dict[str, Any]]
) -> list[Sample]:
    """The counted requests of a level, those of its warm-up before them.

    Args:
        make: the body of the request of a level and number, without what all requests have.
    """
    path = connections.address.path + PATHS[settings.endpoint]
    name = level.in_words(settings.arrivals)
    timeout_seconds = settings.timeout_seconds

    def body(number: int, part: str = "") -> dict[str, Any]:
        return {**GREEDY, **make(f"{name}{part}", number)}

    if warmup := settings.warmup_of(level):
        at_a_time = level.concurrency or warmup
        await at_once(
            connections,
            path,
            lambda number: body(number, "/warm-up"),
            warmup,
            concurrency=at_a_time,
            timeout_seconds=timeout_seconds,
        )
    count = settings.requests_of(level)
    if level.concurrency is not None:
        return await at_once(
            connections, path, body, count, concurrency=level.concurrency, timeout_seconds=timeout_seconds
        )
    assert level.rate is not None
    source = random.Random(f"{settings.seed}/{name}/arrivals")
    times = list(arrival_times(level.rate, count, arrivals=settings.arrivals, source=source))
    return await at_times(connections, path, body, times, timeout_seconds=timeout_seconds)
