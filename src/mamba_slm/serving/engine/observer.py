"""What an engine tells about its work, for metrics and logs.

The engine calls an observer on its own thread, between two steps or within one: what it does there must be quick and
must never wait. Requests are known by what was asked; who asked for it is not the engine's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.generation.events import FinishReason
from mamba_slm.serving.engine.request import EngineRequest, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCounts:
    """What one step did."""

    decoded_tokens: int
    """Fed to the model as the newest tokens of running requests."""
    read_tokens: int
    """Of prompts."""
    seconds: float


class Observer:
    """Does nothing; override what matters."""

    def queued(self, request: EngineRequest) -> None:
        """A request was taken."""

    def refused(self, request: EngineRequest, error: MambaSlmError) -> None:
        """A request was not taken."""

    def started(self, request: EngineRequest, *, queued_seconds: float, cached_tokens: int) -> None:
        """A request got its first slot; so many tokens of its prompt need no reading."""

    def suspended(self, request: EngineRequest) -> None:
        """A request gave its slot to another; it will go on later from its state."""

    def resumed(self, request: EngineRequest) -> None:
        """A suspended request has a slot again."""

    def delivered(self, tokens: int, *, first_seconds: Sequence[float], gap_seconds: Sequence[float]) -> None:
        """Requests of one batch got new tokens.

        Args:
            tokens: of all of them.
            first_seconds: from submission, of each one that got its first.
            gap_seconds: since the tokens before, of each of the others.
        """

    def guessed(self, *, drafted: int, accepted: int) -> None:
        """Tokens of one request were guessed ahead and checked in one go."""

    def finished(self, request: EngineRequest, usage: Usage, reason: FinishReason) -> None:
        """A request has all its tokens."""

    def failed(self, request: EngineRequest, error: MambaSlmError, *, total_seconds: float) -> None:
        """A request ended with an error."""

    def cancelled(self, request: EngineRequest, *, total_seconds: float) -> None:
        """Whoever asked does not want the rest."""

    def stepped(self, counts: StepCounts) -> None:
        """A step is over."""
