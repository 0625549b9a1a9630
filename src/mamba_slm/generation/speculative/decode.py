"""Speculative decoding: one reading of the model for several tokens, and exactly the text that it makes without.

Somebody guesses the next tokens, the model reads its own last token and all guesses at once, and the sampler draws at
each place as it would have drawn without guesses, with the same random numbers. As long as the draw is the guess, the
next place is known already; at the first one that is not, the rest is taken back. So every token is a draw from the
model's own distribution given what stands before it, whoever guessed, and the same seed gives the same text, up to the
rounding of several tokens at once against one.

(Leviathan et al., arXiv:2211.17192, accept a guess with probability min(1, p/q), which keeps more of them where a draft
model samples, but gives another text for the same seed and needs p and q of every sampler. Here draft and model share
their random numbers instead.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mamba_slm.generation.events import Timing, TokenEvent
from mamba_slm.generation.generate import logprobs_of, read_prompts
from mamba_slm.generation.request import Request
from mamba_slm.generation.sampling import Sampler, row_generators
from mamba_slm.generation.speculative.pace import Pace
from mamba_slm.generation.speculative.proposals import Source
from mamba_slm.generation.speculative.reading import reader_of
from mamba_slm.generation.strategies.history import History


@dataclass
class SpeculationCounts:
    """What guessing was good for."""

    readings: int = 0
    """Calls of the model after the prompt."""
    made: int = 0
    """Tokens that came from them."""
    guessed: int = 0
    """Tokens that were guessed."""
    right: int = 0
    """Guesses that were what the model itself drew."""

    @property
    def tokens_per_reading(self) -> float:
        """1 is what there is without guesses; 0 when nothing was read."""
        return self.made / self.readings if self.readings else 0.0

    def add(self, other: SpeculationCounts) -> None:
        """Add the work of another stream."""
        self.readings += other.readings
        self.made += other.made
        self.guessed += other.guessed
        self.right += other.right

    def __str__(self) -> str:
        share = f"{self.right / self.guessed:.0%} of {self.guessed:,}" if self.guessed else "none of 0"
        return f"{self.tokens_per_reading:.2f} tokens per reading; {share} guesses were right"


@dataclass(frozen=True, kw_only=True)
class Speculative:
    """Make every row of a request with guesses from `source`, one row after the other."""

    source: Source
    """Who guesses."""

    counts: SpeculationCounts = field(default_factory=SpeculationCounts, init=False, compare=False)
    """Of all streams so far."""

    texts: WeakKeyDictionary[Any, list[int]] = field(default_factory=WeakKeyDictionary, init=False, compare=False)
    """What each state has read that was given to a stream: a request with a state tells only what is new, and who
    guesses wants to see all. A text that is wrong costs guesses and nothing else."""

    def stream(self, request: Request) -> SpeculativeStream:
        """
        Raises:
            ConfigError: a runtime that cannot take tokens back, or guesses that do not fit the model.
        """
        reader_of(request.runtime, 1)
        self.source.start(request.runtime)
        return SpeculativeStream(self, request)


class Draws:
    """What the sampler would draw at the next places, without using up the row's random numbers."""

    def __init__(self, sampler: Sampler, generator: torch.Generator, history: History | None):
        self._sampler, self._generator, self._history = sampler, generator, history
        self._generators: list[torch.Generator] = []

    def __call__(self, logits: Tensor) -> int:
        if not self._generators:  # copied late: not everybody who guesses draws
            self._generators = [torch.Generator(self._generator.device)]
            self._generators[0].set_state(self._generator.get_state())
            self._history = None if self._history is None else self._history.select([0])
        token = int(self._sampler.sample(logits, self._generators, self._history))
        if self._history is not None:
            self._history.append([token])
        return token


class SpeculativeStream:
    """See `Speculative.stream`."""

    def __init__(self, settings: Speculative, request: Request):
        self.timing = Timing()
        self.counts = SpeculationCounts()
        self._settings = settings
        self._source = settings.source
        self._request = request
        self._generators = row_generators(request.seed, request.first_row + request.num_rows)[request.first_row :]
        self._dropped: set[int] = set()

    @property
    def num_rows(self) -> int:
        """Prompts times samples per prompt."""
        return self._request.num_rows

    def stop_row(self, row: int) -> None:
        """Make no more tokens for `row`."""
        self._dropped.add(row)

    def score(self, row: int) -> None:
        """Nothing is ranked."""

    def __iter__(self) -> Iterator[TokenEvent]:
        """With one row, a state that was given holds everything but the last token that was delivered."""
        started = time.perf_counter()
        earlier = self._earlier()
        state, logits, history = read_prompts(self._request, self._request.state)
        self.timing.prefill_tokens = sum(map(len, self._request.prompts))
        self.timing.prefill_seconds = time.perf_counter() - started
        for row in range(self.num_rows):
            is_only = self.num_rows == 1
            text = earlier + list(self._request.prompts[row // self._request.samples_per_prompt])
            if is_only and self._request.state is not None:
                self._settings.texts[state] = text
            yield from self._row(
                row,
                text,
                state if is_only else state.select(torch.tensor([row], device=logits.device)),
                logits[row : row + 1],
                history if history is None or is_only else history.select([row]),
            )

    def _earlier(self) -> list[int]:
        """What the state of the request has read before, as far as that is known."""
        state = self._request.state
        if state is None or self.num_rows > 1:
            return []
        return self._settings.texts.get(state, [])[: int(state.num_tokens[0])]

    def _row(
        self, row: int, text: list[int], state: Any, logits: Tensor, history: History | None
    ) -> Iterator[TokenEvent]:
        """The events of one row; `text` grows with them."""
        request, generator = self._request, self._generators[row]
        room = request.room[row // request.samples_per_prompt]
        proposer, pace = self._source.start(request.runtime), Pace(self._source.most)
        reader = reader_of(request.runtime, self._source.most + 1)
        counts = SpeculationCounts()
        guesses: list[int] = []
        made = delivered = 0
        is_open = False  # a reading that has not been cut to what was delivered
        try:
            while True:
                for place in range(len(guesses) + 1):  # draw until a draw is not the guess
                    started = time.perf_counter()
                    token, logprob = self._draw(logits[place : place + 1], generator, history)
                    made, delivered = made + 1, delivered + 1
                    text.append(token)
                    reason = request.finish_reason(token, made=made, room=room)
                    was_guessed = place < len(guesses) and token == guesses[place]
                    counts.right += was_guessed
                    counts.made += is_open
                    self.timing.decode_tokens += is_open
                    self.timing.decode_seconds += time.perf_counter() - started
                    yield TokenEvent(row, token, reason, logprob)
                    if reason is not None or row in self._dropped:
                        return
                    if not was_guessed:
                        break
                started = time.perf_counter()
                if is_open:
                    reader.keep(state, delivered)
                    is_open = False
                    pace.told(guessed=len(guesses), right=delivered - 1)
                most = min(pace.ask(), request.max_new_tokens - made - 1, room - made - 1)
                guesses = proposer.propose(text, most, Draws(request.sampler, generator, history)) if most > 0 else []
                logits = reader.read([text[-1], *guesses], state)
                is_open, delivered = True, 0
                counts.readings += 1
                counts.guessed += len(guesses)
                self.timing.decode_seconds += time.perf_counter() - started
        finally:
            if is_open:
                reader.keep(state, max(delivered, 1))
            reader.close(state)
            self._settings.counts.add(counts)
            self.counts.add(counts)

    def _draw(self, logits: Tensor, generator: torch.Generator, history: History | None) -> tuple[int, float | None]:
        """The next token of a row from logits [1 v], and how likely it was if that was asked for."""
        chosen = self._request.sampler.sample(logits, [generator], history)
        token = int(chosen)
        if history is not None:
            history.append([token])
        return token, logprobs_of(chosen, logits)[0] if self._request.logprobs else None
