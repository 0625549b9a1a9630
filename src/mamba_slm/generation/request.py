"""One call of generation: what every strategy is asked, and the rules by which a row ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.events import FinishReason, Stream
from mamba_slm.generation.prefill import check_prompts
from mamba_slm.generation.runtime import Runtime, RuntimeState
from mamba_slm.generation.sampling import Sampler


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to continue, and how far. The fields are the arguments of `generate.stream_tokens`."""

    runtime: Runtime[Any]
    """Runs the model."""

    prompts: Sequence[Sequence[int]]
    """Token ids, at least one per prompt."""

    max_new_tokens: int
    """At most so many new tokens per row."""

    sampler: Sampler = field(default_factory=Sampler.greedy)
    """How a token is chosen."""

    eos_id: int | None = None
    """Token that ends a row."""

    stop_ids: frozenset[int] = frozenset()
    """More tokens that end a row."""

    seed: int = 0
    """Of the draws."""

    samples_per_prompt: int = 1
    """Rows per prompt."""

    state: RuntimeState | None = None
    """What has been read before, one row per prompt."""

    first_row: int = 0
    """Number of the first row, on which the draws depend: rows of a longer list may be asked for in parts."""

    logprobs: bool = False
    """Whether every event says how likely its token was."""

    room: tuple[int, ...] = field(init=False)
    """New tokens until the context is full, by prompt."""

    def __post_init__(self) -> None:
        if self.samples_per_prompt < 1:
            raise ConfigError(f"the number of samples per prompt must be at least 1, got {self.samples_per_prompt}")
        config = self.runtime.config
        earlier = [0] * len(self.prompts) if self.state is None else self.state.num_tokens.tolist()
        check_prompts(config, self.prompts, earlier_tokens=earlier, max_new_tokens=self.max_new_tokens)
        room = (
            config.max_context_tokens - before - len(prompt)
            for before, prompt in zip(earlier, self.prompts, strict=True)
        )
        object.__setattr__(self, "room", tuple(room))

    @property
    def num_rows(self) -> int:
        """Prompts times samples per prompt."""
        return len(self.prompts) * self.samples_per_prompt

    def finish_reason(self, token: int, *, made: int, room: int) -> FinishReason | None:
        """Why a row ends with `token`, its new token number `made`, counted from 1; None: it goes on."""
        if token == self.eos_id:
            return "eos"
        if token in self.stop_ids:
            return "stop_token"
        if made == self.max_new_tokens:
            return "length"
        return "context" if made == room else None


class Strategy(Protocol):
    """A way to make the rows of a request."""

    def stream(self, request: Request) -> Stream:
        """The stream of a request.

        Raises:
            ConfigError: this strategy cannot do what the request asks.
        """
        ...
