"""Counts what the engine tells, on the engine's thread. Reading is for any thread; see `histogram`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.generation.events import FinishReason
from mamba_slm.serving.engine.core import QueueFullError
from mamba_slm.serving.engine.observer import Observer, StepCounts
from mamba_slm.serving.engine.request import EngineRequest, Usage
from mamba_slm.serving.metrics import buckets
from mamba_slm.serving.metrics.histogram import Histogram

FINISHED: dict[FinishReason, str] = {
    "eos": "stop",
    "stop_token": "stop",
    "stop_string": "stop",
    "length": "length",
    "context": "length",
}
"""vLLM's words; besides `abort` for those who left, `error` for those that failed."""
ENDS = ("stop", "length", "abort", "error")
REFUSALS = ("queue_full", "invalid")


class Recorder(Observer):
    """Since the start of the server."""

    def __init__(self, context_tokens: int):
        lengths = buckets.lengths(context_tokens)
        self.first_token_seconds = Histogram(buckets.FIRST_TOKEN_SECONDS)
        self.token_gap_seconds = Histogram(buckets.TOKEN_SECONDS)
        self.token_mean_seconds = Histogram(buckets.TOKEN_SECONDS)
        self.total_seconds = Histogram(buckets.REQUEST_SECONDS)
        self.queue_seconds = Histogram(buckets.REQUEST_SECONDS)
        self.running_seconds = Histogram(buckets.REQUEST_SECONDS)
        self.reading_seconds = Histogram(buckets.REQUEST_SECONDS)
        self.making_seconds = Histogram(buckets.REQUEST_SECONDS)
        self.prompt_tokens = Histogram(lengths)
        self.new_tokens = Histogram(lengths)
        self.computed_prompt_tokens = Histogram(lengths)
        self.most_new_tokens = Histogram(lengths)
        self.suspensions_each = Histogram(buckets.SUSPENSIONS)
        self.step_tokens = Histogram(buckets.STEP_TOKENS)
        self.step_seconds = Histogram(buckets.STEP_SECONDS)
        self.ends: Counter[str] = Counter(dict.fromkeys(ENDS, 0))
        self.refusals: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self.read_tokens = self.cached_tokens = self.made_tokens = self.suspensions = 0
        self.drafts = self.drafted_tokens = self.accepted_tokens = 0
        self.accepted_at: Counter[int] = Counter()
        """How often the guess at a position was right."""

    def queued(self, request: EngineRequest) -> None:
        """One arrived."""
        self.most_new_tokens.observe(request.max_new_tokens)

    def refused(self, request: EngineRequest, error: MambaSlmError) -> None:
        """One could not be taken."""
        self.refusals["queue_full" if isinstance(error, QueueFullError) else "invalid"] += 1

    def started(self, request: EngineRequest, *, queued_seconds: float, cached_tokens: int) -> None:
        """One got its slot."""
        self.queue_seconds.observe(queued_seconds)
        self.cached_tokens += cached_tokens

    def suspended(self, request: EngineRequest) -> None:
        """One gave it back."""
        self.suspensions += 1

    def delivered(self, tokens: int, *, first_seconds: Sequence[float], gap_seconds: Sequence[float]) -> None:
        """Some were told new tokens."""
        self.made_tokens += tokens
        self.first_token_seconds.observe_all(first_seconds)
        self.token_gap_seconds.observe_all(gap_seconds)

    def guessed(self, *, drafted: int, accepted: int) -> None:
        """Guesses were checked."""
        self.drafts += 1
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted
        for position in range(accepted):
            self.accepted_at[position] += 1

    def finished(self, request: EngineRequest, usage: Usage, reason: FinishReason) -> None:
        """One is done."""
        self.ends[FINISHED[reason]] += 1
        making = usage.total_seconds - usage.first_token_seconds
        self.total_seconds.observe(usage.total_seconds)
        self.running_seconds.observe(usage.total_seconds - usage.queued_seconds)
        self.reading_seconds.observe(usage.first_token_seconds - usage.queued_seconds)
        self.making_seconds.observe(making)
        self.token_mean_seconds.observe(making / (usage.new_tokens - 1) if usage.new_tokens > 1 else 0.0)
        self.prompt_tokens.observe(usage.prompt_tokens)
        self.new_tokens.observe(usage.new_tokens)
        self.computed_prompt_tokens.observe(usage.prompt_tokens - usage.cached_tokens)
        self.suspensions_each.observe(usage.suspensions)

    def failed(self, request: EngineRequest, error: MambaSlmError, *, total_seconds: float) -> None:
        """One ended with an error."""
        self.ends["error"] += 1

    def cancelled(self, request: EngineRequest, *, total_seconds: float) -> None:
        """One is not wanted any more."""
        self.ends["abort"] += 1

    def stepped(self, counts: StepCounts) -> None:
        """A step is over."""
        self.read_tokens += counts.read_tokens
        self.step_tokens.observe(counts.decoded_tokens + counts.read_tokens)
        self.step_seconds.observe(counts.seconds)
