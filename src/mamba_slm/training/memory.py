"""How much memory this process uses now, and has used at most. Imports no torch at the top."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path


def memory_bytes(device: str) -> int:
    """Resident memory of the process on a CPU run; the peak that torch allocated on a GPU run."""
    if device.startswith("cuda"):
        return peak_memory_bytes(device)
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory_bytes(device)


def peak_memory_bytes(device: str) -> int:
    """Most that was resident since this program began on a CPU run; the peak that torch allocated on a GPU run.

    Linux gives `ru_maxrss` a process from the one it was forked from, also across exec, but not VmHWM.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), flags=re.MULTILINE)):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
