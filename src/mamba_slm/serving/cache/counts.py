"""What a cache did, in numbers for people and for metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Miss = Literal["no_match", "too_short", "evicted", "salt", "disabled"]
"""Why nothing was reused: no prompt began so; what agrees is too short to be worth a state; its state was there and had
to go; another namespace (model, adapter or salt) has it; the request or the settings forbid it."""

MISSES: tuple[Miss, ...] = ("no_match", "too_short", "evicted", "salt", "disabled")


@dataclass
class CacheCounts:
    """Since the start."""

    queries: int = 0
    """Prompts that were looked up."""
    hits: int = 0
    """Of them, those of which a part was reused."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    stored: int = 0
    """States put in."""
    evicted: int = 0
    """States that had to go."""
    misses: dict[Miss, int] = field(default_factory=lambda: dict.fromkeys(MISSES, 0))

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in self.misses.items() if count)
        share = f"{self.reused_tokens:,} of {self.prompt_tokens:,} prompt tokens reused"
        return f"{self.hits} of {self.queries} prompts hit, {share}" + (f"; misses: {why}" if why else "")
