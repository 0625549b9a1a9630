"""What generation delivers: tokens as they are made, whole rows, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["eos", "stop_token", "stop_string", "length", "context"]
"""Why a row ended: the end token, another stop token, a stop string, max_new_tokens, the model's context is full."""


@dataclass(frozen=True)
class TokenEvent:
    """One new token of one row."""

    row: int
    """Prompt i with n samples per prompt has the rows i * n ... i * n + n - 1."""
    token: int
    finish_reason: FinishReason | None
    """Set with the last token of the row. An `eos` or `stop_token` is delivered, too, as this last token."""
    logprob: float | None = None
    """Of the token under the model itself, before penalties and filters, in nats; None where nobody asked for it."""


@dataclass
class Timing:
    """Work done and seconds spent by the model and the sampler, the consumer's time left out."""

    prefill_tokens: int = 0
    """Prompt tokens that went through the model, padding left out; a prompt with several samples counts once."""
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    """Tokens that went through the model one at a time; the first new token of a row comes from the prefill."""
    decode_seconds: float = 0.0

    @property
    def prefill_tokens_per_second(self) -> float:
        """0 when nothing was measured."""
        return self.prefill_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Over all rows; 0 when nothing was measured."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0

    def add(self, other: Timing) -> None:
        """Add the work of another call."""
        self.prefill_tokens += other.prefill_tokens
        self.prefill_seconds += other.prefill_seconds
        self.decode_tokens += other.decode_tokens
        self.decode_seconds += other.decode_seconds


@dataclass(frozen=True)
class Completion:
    """What one row returned."""

    tokens: tuple[int, ...]
    """New tokens, without the end or stop token that ended them."""
    finish_reason: FinishReason
    prompt_tokens: int
    score: float | None = None
    """What a search ranks its results by, larger is better; None where nothing is ranked."""


@dataclass(frozen=True)
class GenerationResult:
    """All rows of one call, in the order of the prompts, and what they cost together."""

    completions: tuple[Completion, ...]
    timing: Timing


class Stream(Protocol):
    """Iterate once to get the tokens of every row."""

    @property
    def timing(self) -> Timing:
        """What it has cost so far."""
        ...

    @property
    def num_rows(self) -> int:
        """Prompts times rows per prompt."""
        ...

    def stop_row(self, row: int) -> None:
        """Make no more tokens for `row`: its consumer has enough."""
        ...

    def __iter__(self) -> Iterator[TokenEvent]: ...

    def score(self, row: int) -> float | None:
        """What the row was ranked by; None where nothing is ranked. Known when the iteration ends."""
        ...
