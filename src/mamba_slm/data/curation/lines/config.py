"""Which lines are boilerplate."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LinesConfig:
    """Lines that stand in too many documents are taken out of all of them."""

    max_documents: int = 5
    """In so many documents a line may stand; with one more it is nobody's own. C4 allows 1, of three sentences."""

    min_words: int = 4
    """Shorter lines are left alone: "Yes.", "Chapter 1", names."""

    memory_bytes: int = 1 << 28
    """About what one task holds at once, besides the Python process."""

    def __post_init__(self) -> None:
        for name in ("max_documents", "min_words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.memory_bytes < 1 << 16:
            raise ConfigError(f"memory_bytes must be at least 64 KiB, got {self.memory_bytes}")
