"""What the processor is called and which instructions it has, as the system tells."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

DESCRIBING_LINES = ("model name", "flags", "Features", "CPU part")


@functools.cache
def processor_features() -> str:
    """Name and instructions of the processor: what machine code that was compiled for it depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "; ".join(sorted({line for line in lines if line.startswith(DESCRIBING_LINES)}))


def has_instructions(*names: str) -> bool:
    """Whether the processor names all of these features, such as avx512_bf16."""
    return set(names) <= set(processor_features().replace(";", " ").split())
