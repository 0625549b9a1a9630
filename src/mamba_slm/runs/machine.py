"""What this machine is, in a few facts, without torch. No host name, no user name, no environment variable."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path
from typing import Any

from mamba_slm.runs.process import output_of, read_text

CGROUP = Path("/sys/fs/cgroup")


def hardware_summary() -> dict[str, Any]:
    """Processor, usable cores, memory in bytes and GPU names.

    Cores and memory are what this process may use: affinity and container limits count. GPUs are those the driver
    lists; a torch program that knows more can add it to `RunRecord.hardware`.
    """
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_bytes": usable_memory_bytes(),
        "gpus": gpu_names(),
    }


def processor_name() -> str:
    """The processor's model name, else its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", read_text(Path("/proc/cpuinfo")) or "", flags=re.MULTILINE)
    if found:
        return " ".join(found[1].split())
    return output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine() or "unknown"


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the container's CPU limit rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = (read_text(CGROUP / "cpu.max") or "max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, cores)


def usable_memory_bytes() -> int | None:
    """The machine's memory or the container's limit, whichever is less; None where neither can be read."""
    known = []
    if {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(os.sysconf_names):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = read_text(CGROUP / "memory.max")
    if limit and limit.isdigit():
        known.append(int(limit))
    return min(known, default=None)


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs the kernel driver lists, in its order."""
    names = []
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+)$", read_text(information) or "", flags=re.MULTILINE)
        names.append(found[1].strip() if found else "NVIDIA GPU")
    return names
