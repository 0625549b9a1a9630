"""A request as the scheduler sees it: numbers only, no tokens and no tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError

Place = Literal["waiting", "running", "suspended"]
"""waiting: has no memory yet; running: holds a slot; suspended: was moved out of its slot with all that it has read."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request."""

    number: int
    """Order of arrival; unique."""

    submitted: float
    """Seconds on the engine's clock."""

    place: Place

    unread: int
    """Tokens of the prompt that are still to be read; 0: it makes tokens."""

    tokens: int = 0
    """In its state. What a waiting job will take over from a cache counts as unread."""

    priority: int = 0
    """Smaller is more urgent."""

    tenant: str = ""
    """On whose behalf; equal turns for tenants, not for requests."""

    waits_for: int | None = None
    """A job that reads what this one can take over when it is done; it is not started before."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What there is, in numbers that do not change while the engine runs."""

    slots: int
    """Requests that run at once."""

    block_tokens: int
    """Tokens of keys and values in a block."""

    step_tokens: int
    """Tokens that go through the model in one step: one of each request that makes tokens, the rest from prompts."""

    ageing_seconds: float = 10.0
    """A request becomes more urgent by one level of priority each time it has waited so long: none starves."""

    def __post_init__(self) -> None:
        if self.slots < 1 or self.block_tokens < 1 or not self.ageing_seconds > 0:
            raise ConfigError(
                f"an engine needs slots, blocks and a time, got slots={self.slots}, block_tokens={self.block_tokens}, "
                f"ageing_seconds={self.ageing_seconds}"
            )
        if self.step_tokens <= self.slots:
            raise ConfigError(
                f"step_tokens={self.step_tokens} leaves nothing for prompts when {self.slots} requests make tokens",
                hint=f"use at least {self.slots + 1}",
            )

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens.

        >>> Limits(slots=1, block_tokens=64, step_tokens=8).blocks(65)
        2
        """
        return -(-tokens // self.block_tokens)

    def level(self, job: Job, now: float) -> int:
        """Priority after ageing; smaller is more urgent."""
        return job.priority - math.floor(max(0.0, now - job.submitted) / self.ageing_seconds)
