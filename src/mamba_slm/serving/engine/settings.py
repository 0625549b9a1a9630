"""How much an engine may hold and do at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.cache.prefix_cache import CacheSettings

INVARIANT_PIECE_TOKENS = 256
"""In batch-invariant mode prompts are cut at multiples of this, whatever else is read."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What an engine may use."""

    max_running: int = 64
    """Requests that run at the same time; each has its memory, which is allocated at the start."""

    max_waiting: int = 1024
    """Requests that may wait for a slot; more are refused."""

    kv_tokens: int = 131_072
    """Tokens whose keys and values have room, of running requests and of the cache together; at least a context."""

    block_tokens: int = 64
    """Tokens in a block of keys and values."""

    step_tokens: int = 576
    """Tokens in one step: one of each running request, the rest from prompts. Smaller: steadier; larger: faster."""

    batch_invariant: bool = False
    """Whether what a request returns must not depend on others by a bit; costs speed, and part of the cache's hits."""

    ageing_seconds: float = 10.0
    """A request becomes more urgent by one level of priority each time it has waited so long."""

    cache: CacheSettings = field(default_factory=CacheSettings)
    """What is kept of prompts that were read."""

    def __post_init__(self) -> None:
        if min(self.max_running, self.max_waiting, self.kv_tokens, self.block_tokens) < 1:
            raise ConfigError(
                f"an engine needs room, got max_running={self.max_running}, max_waiting={self.max_waiting}, "
                f"kv_tokens={self.kv_tokens}, block_tokens={self.block_tokens}"
            )
