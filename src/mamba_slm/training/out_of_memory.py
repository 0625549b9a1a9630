"""Running out of memory: how Python, torch on a CPU and CUDA each say it. Imports no torch."""

from __future__ import annotations

import sys

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.core.units import format_bytes
from mamba_slm.training.fitting import Demand, hint_for

CPU_ALLOCATOR_WORDS = ("not enough memory", "can't allocate")
"""Of the RuntimeError that torch's CPU allocator raises (c10/core/impl/alloc_cpu.cpp)."""

ONEDNN_WORDS = ("could not create a primitive", "could not create a memory object", "could not execute a primitive")
"""Of the RuntimeError of oneDNN, whose products ask for memory of their own. It gives no reason; a product of sizes
that are known to work has no other."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was refused."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or any(
        word in str(error) for word in (*CPU_ALLOCATOR_WORDS, *ONEDNN_WORDS)
    )


def explained(error: BaseException, demand: Demand, memory_bytes: int | None) -> OutOfMemoryError:
    """The error that a user sees: what is needed, the largest part of it, and the flags that would fit."""
    memory = demand.memory()
    name, size = memory.largest
    why = (str(error).strip() or "the system refused the allocation").splitlines()[0][:160]
    return OutOfMemoryError(
        f"out of memory: {why}; estimated are {format_bytes(memory.total)}, and the largest part is {name} with "
        f"{format_bytes(size)}",
        hint=f"{hint_for(demand, memory_bytes)}; --auto-fit chooses by itself",
    )
