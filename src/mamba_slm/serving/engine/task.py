"""One request inside the engine: where it is, what it holds, and what it has made."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from mamba_slm.generation.events import FinishReason
from mamba_slm.generation.strategies.history import History
from mamba_slm.generation.stream import TextStream, TokenBytes
from mamba_slm.serving.engine.choosing import Choice, Row
from mamba_slm.serving.engine.request import Deliver, EngineRequest, Piece, Usage
from mamba_slm.serving.memory.pool import Parked, Sequence
from mamba_slm.serving.scheduler.job import Job


@dataclass(eq=False)
class Task:
    """Changes as the request goes on."""

    number: int
    request: EngineRequest
    deliver: Deliver
    submitted: float
    text: TextStream | None
    """Where there is a tokenizer."""
    row: Row
    room: int
    """New tokens until the model's context is full."""
    sequence: Sequence | None = None
    parked: Parked | None = None
    at: int = 0
    """Prompt tokens in the state."""
    cuts: list[int] = field(default_factory=list)
    """Positions in the prompt where a state is to be kept, in order."""
    wanted: set[int] = field(default_factory=set)
    """Of them, those at which others will take over, or have parted already."""
    shared: dict[int, int] = field(default_factory=dict)
    """Tokens that the prompt has in common with those of others, by their numbers."""
    made: list[int] = field(default_factory=list)
    cached: int = 0
    started: float | None = None
    first: float | None = None
    latest: float | None = None
    """When its newest token was made."""
    suspensions: int = 0
    waits_for: int | None = None

    @classmethod
    def of(
        cls,
        number: int,
        request: EngineRequest,
        deliver: Deliver,
        *,
        now: float,
        tokenizer: TokenBytes | None,
        context_tokens: int,
        vocab_size: int,
        device: torch.device,
    ) -> Task:
        """A task that has just arrived."""
        history = None
        if request.sampler.needs_history:
            history = History([request.prompt], vocab_size=vocab_size, device=device)
        generator = torch.Generator().manual_seed(request.seed % 2**63)
        return cls(
            number=number,
            request=request,
            deliver=deliver,
            submitted=now,
            text=None if tokenizer is None else TextStream.create(tokenizer, request.stops),
            row=Row(request.sampler, generator, history, request.logprobs),
            room=context_tokens - len(request.prompt),
        )

    @property
    def unread(self) -> int:
        """Prompt tokens that are not in the state."""
        return len(self.request.prompt) - self.at

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt and what was made."""
        return (*self.request.prompt, *self.made)

    def job(self) -> Job:
        """As the scheduler sees it."""
        held = self.sequence or self.parked
        return Job(
            number=self.number,
            submitted=self.submitted,
            place="running" if self.sequence is not None else "suspended" if self.parked is not None else "waiting",
            unread=self.unread,
            tokens=0 if held is None else held.num_tokens,
            priority=self.request.priority,
            tenant=self.request.tenant,
            waits_for=self.waits_for,
        )

    def take(self, choice: Choice, now: float) -> Piece:
        """Count a new token; what to tell about it."""
        request = self.request
        self.made.append(choice.token)
        self.first = now if self.first is None else self.first
        self.latest = now
        if self.row.history is not None:
            self.row.history.append([choice.token])
        reason = self.reason(choice.token)
        text = ""
        if self.text is not None:
            text = "" if reason in ("eos", "stop_token") else self.text.push(choice.token)
            if reason is not None and not self.text.stopped:
                text += self.text.finish()
            reason = "stop_string" if self.text.stopped else reason
        usage = None
        if reason is not None:
            usage = Usage(
                prompt_tokens=len(request.prompt),
                cached_tokens=self.cached,
                new_tokens=len(self.made),
                queued_seconds=(self.started or now) - self.submitted,
                first_token_seconds=self.first - self.submitted,
                total_seconds=now - self.submitted,
                suspensions=self.suspensions,
            )
        return Piece(
            token=choice.token, text=text, finish_reason=reason, logprob=choice.logprob, top=choice.top, usage=usage
        )

    def reason(self, token: int) -> FinishReason | None:
        """Why the text ends with this token, if it does."""
        if token == self.request.eos_id:
            return "eos"
        if token in self.request.stop_ids:
            return "stop_token"
        if len(self.made) == self.request.max_new_tokens:
            return "length"
        return "context" if len(self.made) == self.room else None
