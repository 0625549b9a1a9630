"""Running out of memory: how Python, torch on a CPU and CUDA each say it. Imports no torch."""

from __future__ import annotations

import sys

CPU_ALLOCATOR_WORDS = ("not enough memory", "can't allocate")
"""Of the RuntimeError that torch's CPU allocator raises (c10/core/impl/alloc_cpu.cpp)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was refused."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in CPU_ALLOCATOR_WORDS)
