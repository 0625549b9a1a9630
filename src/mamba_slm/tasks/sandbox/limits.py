"""What a program in the sandbox may use."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """Bounds that the kernel holds; what comes to them fails, and the machine does not notice."""

    timeout_seconds: float = 10.0
    """Wall-clock time of a program, waiting included; then everything of it is killed."""

    cpu_seconds: int = 10
    """Processor time of each process."""

    memory_bytes: int = 512 << 20
    """Address space of each process: a program has `max_processes` times this at the very most."""

    max_processes: int = 4
    """Processes and threads of a program at a time, itself included."""

    disk_bytes: int = 32 << 20
    """Size of its only writable folder, /tmp, which lies in memory and vanishes with it."""

    max_files: int = 1024
    """Files and folders there."""

    output_bytes: int = 1 << 16
    """Kept of what it prints; the rest is read and thrown away."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
