"""What the engine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.generation.events import FinishReason
from mamba_slm.generation.sampling import Sampler


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """One text to continue."""

    prompt: tuple[int, ...]
    """Token ids, at least one."""

    max_new_tokens: int
    """At most so many new tokens."""

    sampler: Sampler = field(default_factory=Sampler.greedy)
    """How a token is chosen. Requests with equal samplers and no processors are sampled together."""

    seed: int = 0
    """Of the draws."""

    eos_id: int | None = None
    """Token that ends the text."""

    stop_ids: frozenset[int] = frozenset()
    """More tokens that end it."""

    stops: tuple[str, ...] = ()
    """Texts that end it, and are not part of it."""

    logprobs: int | None = None
    """So many likely tokens are told beside each token, with how likely they and it were; None: nothing."""

    boundaries: tuple[int, ...] = ()
    """Tokens up to the ends of the messages of a conversation, where a state is worth keeping."""

    adapter: str = ""
    """Key of the adapter that continues the text (`LoadedAdapter.key`); empty: the base model."""

    salt: str = ""
    """Only requests of one salt take over each other's states."""

    use_cache: bool = True
    """Whether states of earlier prompts may be taken over, and are kept."""

    guess: bool = True
    """Whether tokens may be guessed ahead where the engine can; the answer is the same."""

    priority: int = 0
    """Smaller is more urgent."""

    tenant: str = ""
    """On whose behalf; tenants get equal turns."""

    @property
    def namespace(self) -> str:
        """Adapter and salt: only requests of one namespace take over each other's states.

        >>> EngineRequest(prompt=(1,), max_new_tokens=1, adapter="a", salt="b").namespace
        '1:ab'
        """
        return f"{len(self.adapter)}:{self.adapter}{self.salt}"

    def __post_init__(self) -> None:
        if self.logprobs is not None and self.logprobs < 0:
            raise ConfigError(f"logprobs must be 0 or more, got {self.logprobs}")


@dataclass(frozen=True)
class Logprob:
    """How likely a token was under the model itself, before penalties and filters."""

    token: int
    logprob: float
    """In nats."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a request cost."""

    prompt_tokens: int
    cached_tokens: int
    """Of the prompt, those whose state was there."""
    new_tokens: int
    queued_seconds: float
    """From submission until it got a slot."""
    first_token_seconds: float
    """From submission until the first token."""
    total_seconds: float
    suspensions: int
    """How often it had to give its slot to another."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One new token."""

    token: int
    text: str
    """Text that became certain; may be empty."""
    finish_reason: FinishReason | None = None
    """Set with the last token. An `eos` or `stop_token` has no text."""
    logprob: Logprob | None = None
    top: tuple[Logprob, ...] = ()
    """The likeliest tokens, the most likely first."""
    usage: Usage | None = None
    """Set with the last token."""


@dataclass(frozen=True)
class Failure:
    """The request ends here without a result."""

    error: MambaSlmError


Answer = Piece | Failure
Deliver = Callable[[Answer], None]
"""Called by the engine's thread with every answer to a request; must not wait."""
