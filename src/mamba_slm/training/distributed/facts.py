"""What each process of a job knows about itself, and what is odd about all of them together. Nothing is measured."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mamba_slm.runs.machine import usable_cores, usable_memory_bytes
from mamba_slm.training.distributed.finding import Finding
from mamba_slm.training.distributed.meeting import versions_here
from mamba_slm.training.distributed.world import World

COMPARED = ("NCCL_", "GLOO_", "TORCH_NCCL_", "OMP_NUM_THREADS", "CUDA_DEVICE_MAX_CONNECTIONS")
"""Beginnings of variables that change how processes talk or compute."""


def facts_of(world: World) -> dict[str, Any]:
    """What this process tells about itself, as JSON."""
    on_gpu = world.device_type == "cuda"
    properties = torch.cuda.get_device_properties(world.device) if on_gpu else None
    versions = versions_here()
    if on_gpu:
        from torch.cuda import nccl

        versions["CUDA"] = str(torch.version.cuda)  # type: ignore[attr-defined]
        versions["NCCL"] = ".".join(map(str, nccl.version()))
    return {
        "host": socket.gethostname(),
        "device": world.device,
        "device_name": properties.name if properties else "CPU",
        "device_id": str(properties.uuid) if properties else "",
        "threads": torch.get_num_threads(),
        "cores": usable_cores(),
        "memory_bytes": usable_memory_bytes(),
        "versions": versions,
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(COMPARED)},
    }


def machines_of(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Host → numbers of its processes."""
    machines = defaultdict(list)
    for rank, fact in enumerate(facts):
        machines[fact["host"]].append(rank)
    return dict(machines)


def numbers(ranks: Sequence[int]) -> str:
    """Numbers of processes in short.

    >>> numbers([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], rank]
        else:
            spans.append([rank, rank])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


def judge_processes(facts: Sequence[Mapping[str, Any]]) -> Finding:
    """Who takes part, and whether each has a device of its own."""
    machines = machines_of(facts)
    listed = "; ".join(f"{host}: {numbers(ranks)}" for host, ranks in list(machines.items())[:8])
    text = (
        f"{counted(len(facts), 'process', 'processes')} on {counted(len(machines), 'machine', 'machines')} ({listed})"
    )
    shared = defaultdict(list)
    for rank, fact in enumerate(facts):
        if fact["device_id"]:
            shared[fact["host"], fact["device_id"]].append(rank)
    twice = next((ranks for ranks in shared.values() if len(ranks) > 1), None)
    if twice:
        return Finding(
            name="processes",
            status="fail",
            text=f"{text}; processes {numbers(twice)} share one GPU",
            hint="start one process per GPU, and let each see all GPUs of its machine",
        )
    counts = {len(ranks) for ranks in machines.values()}
    kinds = sorted({fact["device_name"] for fact in facts})
    if len(counts) > 1 or len(kinds) > 1:
        odd = "machines with different numbers of processes" if len(counts) > 1 else f"different devices: {kinds}"
        return Finding(name="processes", status="warn", text=f"{text}; {odd}: all wait for the slowest")
    return Finding(name="processes", text=f"{text}, {kinds[0]}")


def judge_versions(facts: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether all run the same programs."""
    first = facts[0]["versions"]
    odd = [rank for rank, fact in enumerate(facts) if fact["versions"] != first]
    listed = ", ".join(f"{name} {version}" for name, version in first.items())
    if not odd:
        return Finding(name="versions", text=f"equal everywhere: {listed}")
    other = facts[odd[0]]["versions"]
    differing = [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]
    pairs = ", ".join(f"{name} {first.get(name)} and {other.get(name)}" for name in differing)
    return Finding(
        name="versions",
        status="fail",
        text=f"process 0 and {numbers(odd)} differ: {pairs}",
        hint="install the same on every machine, or use one environment on a shared disk",
    )


def judge_variables(facts: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether the variables that steer communication and threads are the same."""
    names = sorted({name for fact in facts for name in fact["variables"]})
    odd = [name for name in names if len({fact["variables"].get(name) for fact in facts}) > 1]
    if odd:
        values = {fact["variables"].get(odd[0]) for fact in facts}
        return Finding(
            name="variables",
            status="warn",
            text=f"{', '.join(odd)} differ between processes ({odd[0]}: {', '.join(sorted(map(str, values)))})",
            hint="export them before the launcher, on every machine",
        )
    machines = machines_of(facts)
    for host, ranks in machines.items():
        threads, cores = sum(facts[rank]["threads"] for rank in ranks), facts[ranks[0]]["cores"]
        if facts[ranks[0]]["device_name"] == "CPU" and threads > cores:
            return Finding(
                name="variables",
                status="warn",
                text=f"{host} has {cores} cores, and its processes use {threads} threads: they are in each other's way",
                hint=f"export OMP_NUM_THREADS={max(1, cores // len(ranks))}",
            )
    listed = ", ".join(f"{name}={value}" for name, value in facts[0]["variables"].items())
    return Finding(name="variables", text=f"equal everywhere: {listed}" if listed else "none is set")


def counted(number: int, one: str, more: str) -> str:
    """`1 machine`, `2 machines`."""
    return f"{number} {one if number == 1 else more}"
