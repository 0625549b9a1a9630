"""How processes reach each other: right sums, latency, bandwidth, slow links, clocks. All call these together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import distributed

from mamba_slm.core.units import format_bytes, format_seconds
from mamba_slm.training.distributed.facts import numbers
from mamba_slm.training.distributed.finding import Finding, milliseconds
from mamba_slm.training.distributed.world import World

SMALL_REPEATS = 30
LARGE_BYTES = 32 << 20
LARGE_REPEATS = 3
LINK_BYTES = 4 << 20
LINK_REPEATS = 4
CLOCK_REPEATS = 10
SLOW = 2.0
"""A link or a process this many times slower than the middle one is named."""
CLOCK_SECONDS = 1.0
"""Clocks that differ by more make times in logs contradict each other."""
WORK_SECONDS = 0.2


def check_sums(world: World) -> Finding:
    """All-reduce, broadcast, all-gather and reduce-scatter of whole numbers that float32 adds without rounding."""
    wrong: list[str] = []
    size, rank, device = world.size, world.rank, world.device
    base = torch.arange(4096, device=device).float() % 16
    factors = [1 + other % 16 for other in range(size)]
    expected = {
        "all-reduce": base * sum(factors),
        "broadcast": base * factors[-1],
        "all-gather": torch.cat([base * factor for factor in factors]),
        "reduce-scatter": (base * sum(factors)) + rank * size,
    }
    own = base * factors[rank]
    found = {name: torch.full_like(value, float("nan")) for name, value in expected.items()}
    with world.watched():
        found["all-reduce"].copy_(own)
        distributed.all_reduce(found["all-reduce"])
        found["broadcast"].copy_(own)
        distributed.broadcast(found["broadcast"], src=size - 1)
        distributed.all_gather(list(found["all-gather"].chunk(size)), own)
        distributed.reduce_scatter(found["reduce-scatter"], [own + other for other in range(size)])
    wrong += [name for name, value in expected.items() if not torch.equal(found[name], value)]
    answers = world.gather(wrong)
    bad = {rank: names for rank, names in enumerate(answers) if names}
    if bad:
        rank, names = next(iter(bad.items()))
        return Finding(
            name="sums",
            status="fail",
            text=f"wrong result of {', '.join(names)} in process {numbers(list(bad))}",
            hint="another NCCL or another network interface (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME); do not train",
        )
    return Finding(name="sums", text=f"{', '.join(expected)} are exact in every process")


def measure_all_reduce(world: World) -> Finding:
    """Latency of a small all-reduce, bandwidth of a large one, and what gradients would cost."""
    small, large = (torch.ones(count, device=world.device) for count in (1, LARGE_BYTES // 4))
    with world.watched():
        latency = statistics.median(timed(world, lambda: distributed.all_reduce(small), SMALL_REPEATS))
        seconds = min(timed(world, lambda: distributed.all_reduce(large), LARGE_REPEATS))
    latency, seconds = slowest(world, latency), slowest(world, seconds)
    rate = LARGE_BYTES / seconds
    # each process sends and receives 2 (n - 1) / n times the bytes in a ring, so this is what its link carries
    carried = rate * 2 * (world.size - 1) / world.size
    backend = "nccl" if world.device_type == "cuda" else "gloo"
    return Finding(
        name="all-reduce",
        text=f"{backend}: {milliseconds(latency)} for 4 bytes, {format_bytes(rate)}/s for {format_bytes(LARGE_BYTES)}: "
        f"the float32 gradients of 125M parameters take {format_seconds(latency + 500e6 / rate)}",
        measured={
            "latency_seconds": latency,
            "bytes_per_second": rate,
            "carried_bytes_per_second": carried,
            "bytes": float(LARGE_BYTES),
        },
    )


def measure_links(world: World) -> Finding:
    """Each process sends to the next one, one pair at a time; a slow pair is named."""
    content, answer = torch.ones(LINK_BYTES // 4, device=world.device), torch.ones(1, device=world.device)
    own = float("inf")
    with world.watched():
        for sender in range(world.size):
            receiver = (sender + 1) % world.size
            for _ in range(LINK_REPEATS):  # the first one opens the connection
                distributed.barrier()
                began = time.perf_counter()
                if world.rank == sender:
                    distributed.send(content, dst=receiver)
                    distributed.recv(answer, src=receiver)
                    wait_for_device(world)
                    own = min(own, time.perf_counter() - began)
                elif world.rank == receiver:
                    distributed.recv(content, src=sender)
                    distributed.send(answer, dst=sender)
    return judge_links([LINK_BYTES / seconds for seconds in world.gather(own)])


def judge_links(rates: Sequence[float]) -> Finding:
    """Bytes per second from each process to the next; a slow one is named."""
    middle, least = statistics.median(rates), min(rates)
    slow = rates.index(least)
    measured = {"median_bytes_per_second": middle, "least_bytes_per_second": least}
    text = f"{format_bytes(middle)}/s from one process to the next"
    if middle > SLOW * least:
        return Finding(
            name="links",
            status="warn",
            text=f"{text}, but {format_bytes(least)}/s from {slow} to {(slow + 1) % len(rates)}",
            hint="look at that machine's cable, interface or neighbours; every all-reduce waits for it",
            measured=measured,
        )
    return Finding(name="links", text=f"{text}, {format_bytes(least)}/s on the slowest", measured=measured)


def measure_clocks(world: World) -> tuple[Finding, float]:
    """Offset of each clock from that of process 0, from the quickest of several round trips; also that of this one."""
    own = 0.0
    with world.watched():
        for other in range(1, world.size):
            if world.rank == 0:
                answer_with_time(other)
            elif world.rank == other:
                own = ask_for_time()
    return judge_clocks(world.gather(own)), own


def judge_clocks(offsets: Sequence[float]) -> Finding:
    """Seconds by which each clock is ahead of the first."""
    spread = max(offsets) - min(offsets)
    measured = {"spread_seconds": spread}
    if spread > CLOCK_SECONDS:
        ranks = [rank for rank, offset in enumerate(offsets) if abs(offset - statistics.median(offsets)) > spread / 4]
        return Finding(
            name="clocks",
            status="warn",
            text=f"clocks differ by {format_seconds(spread)}; process {numbers(ranks)} stands out",
            hint="run a time service (chrony, ntpd) on every machine; training is right, times in logs are not",
            measured=measured,
        )
    return Finding(name="clocks", text=f"differ by {milliseconds(spread)}", measured=measured)


def answer_with_time(other: int) -> None:
    """The part of process 0 in `ask_for_time`."""
    message = torch.zeros(1, dtype=torch.float64)
    for _ in range(CLOCK_REPEATS):
        distributed.recv(message, src=other)
        distributed.send(torch.tensor([time.time()], dtype=torch.float64), dst=other)


def ask_for_time() -> float:
    """Seconds by which this clock is ahead of that of process 0: half a round trip is the most it can be wrong."""
    best, offset = float("inf"), 0.0
    answer = torch.zeros(1, dtype=torch.float64)
    for _ in range(CLOCK_REPEATS):
        began = time.time()
        distributed.send(torch.zeros(1, dtype=torch.float64), dst=0)
        distributed.recv(answer, src=0)
        ended = time.time()
        if ended - began < best:
            best, offset = ended - began, (began + ended) / 2 - float(answer)
    return offset


def measure_barrier(world: World, clock_offset: float) -> Finding:
    """How long a barrier takes, and how far apart the processes leave it."""
    with world.watched():
        seconds = statistics.median(timed(world, distributed.barrier, SMALL_REPEATS))
        left: list[float] = []
        for _ in range(SMALL_REPEATS):
            distributed.barrier()
            left.append(time.time() - clock_offset)
    moments = world.gather(left)
    skew = statistics.median(max(moment) - min(moment) for moment in zip(*moments, strict=True))
    seconds = slowest(world, seconds)
    return Finding(
        name="barrier",
        text=f"takes {milliseconds(seconds)}, and processes leave it within {milliseconds(skew)}",
        measured={"seconds": seconds, "skew_seconds": skew},
    )


def measure_work(world: World) -> Finding:
    """The same matrix products in every process at the same time; one that is slow is named."""
    matrix = torch.ones(512, 512, device=world.device)
    matrix.matmul(matrix)
    wait_for_device(world)
    with world.watched():
        distributed.barrier()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < WORK_SECONDS:
        matrix.matmul(matrix)
        wait_for_device(world)
        done += 1
    return judge_work(world.gather(done / (time.perf_counter() - began)))


def judge_work(rates: Sequence[float]) -> Finding:
    """Products per second of each process."""
    middle, least = statistics.median(rates), min(rates)
    measured = {"slowest_share_of_median": least / middle}
    if middle > SLOW * least:
        slow = [rank for rank, rate in enumerate(rates) if middle > SLOW * rate]
        return Finding(
            name="speed",
            status="warn",
            text=f"process {numbers(slow)} computes at {least / middle:.0%} of the speed of the middle one",
            hint="is something else running there, or is it hot? Every step waits for it",
            measured=measured,
        )
    return Finding(name="speed", text=f"the slowest computes at {least / middle:.0%} of the middle", measured=measured)


def timed(world: World, work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each repetition, after one that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        distributed.barrier()
        began = time.perf_counter()
        work()
        wait_for_device(world)
        seconds.append(time.perf_counter() - began)
    return seconds


def slowest(world: World, seconds: float) -> float:
    """The longest of all processes."""
    return max(world.gather(seconds))


def wait_for_device(world: World) -> None:
    """Until the GPU has done what it was given."""
    if world.device_type == "cuda":
        torch.cuda.synchronize(world.device)
