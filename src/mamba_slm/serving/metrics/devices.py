"""Memory of GPUs, for metrics."""

from __future__ import annotations

import torch


def gpu_bytes() -> dict[str, float]:
    """Of the GPU that is in use, by kind: total, free, and what this process allocated and reserved; empty without."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "total": float(total),
        "free": float(free),
        "allocated": float(torch.cuda.memory_allocated()),
        "reserved": float(torch.cuda.memory_reserved()),
    }
