"""How much memory this process uses now. Imports no torch at the top."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def memory_bytes(device: str) -> int:
    """Resident memory of the process on a CPU run; the peak that torch allocated on a GPU run."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
