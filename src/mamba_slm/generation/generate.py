"""The decode loop: prefill a batch of prompts, then one token per row and step.

A row that is done leaves the batch. What a row returns does not depend on its neighbours, except for rounding. Other
ways to make the rows are in `mamba_slm.generation.strategies`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mamba_slm.generation.events import Completion, FinishReason, GenerationResult, Stream, Timing, TokenEvent
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.request import Request, Strategy
from mamba_slm.generation.runtime import Runtime, RuntimeState, as_runtime
from mamba_slm.generation.sampling import Sampler, row_generators
from mamba_slm.generation.strategies.history import History
from mamba_slm.model.stack import LanguageModel


class TokenStream:
    """Iterate once to get `TokenEvent`s as they are made; see `stream_tokens`."""

    def __init__(self, request: Request):
        self.timing = Timing()
        self._request = request
        self._generators = row_generators(request.seed, request.first_row + self.num_rows)[request.first_row :]
        self._state = request.state
        self._dropped: set[int] = set()

    @property
    def num_rows(self) -> int:
        """Prompts times samples per prompt."""
        return self._request.num_rows

    def stop_row(self, row: int) -> None:
        """Make no more tokens for `row`: its consumer found a stop string."""
        self._dropped.add(row)

    def score(self, row: int) -> None:
        """Nothing is ranked."""

    def __iter__(self) -> Iterator[TokenEvent]:
        """Closing the iterator frees the state at once."""
        try:
            yield from self._events()
        finally:
            self._state = None

    def _events(self) -> Iterator[TokenEvent]:
        request, sampler, runtime = self._request, self._request.sampler, self._request.runtime
        started = time.perf_counter()
        self._state, logits, history = read_prompts(request, self._state)
        self.timing.prefill_tokens = sum(map(len, request.prompts))
        self.timing.prefill_seconds = time.perf_counter() - started

        rows = list(range(self.num_rows))
        room = [request.room[row // request.samples_per_prompt] for row in rows]
        for made in range(1, request.max_new_tokens + 1):
            started = time.perf_counter()
            chosen = sampler.sample(logits, [self._generators[row] for row in rows], history)
            tokens = chosen.tolist()
            logprobs = logprobs_of(chosen, logits) if request.logprobs else [None] * len(rows)
            events = [
                TokenEvent(row, token, request.finish_reason(token, made=made, room=room[row]), logprob)
                for row, token, logprob in zip(rows, tokens, logprobs, strict=True)
            ]
            self.timing.decode_seconds += time.perf_counter() - started
            yield from events

            started = time.perf_counter()
            if history is not None:
                history.append(tokens)
            going = [
                place
                for place, event in enumerate(events)
                if event.finish_reason is None and event.row not in self._dropped
            ]
            if not going:
                return
            if len(going) < len(rows):
                rows = [rows[place] for place in going]
                kept = torch.tensor(going, device=chosen.device)
                chosen = chosen[kept]
                self._state = self._state.select(kept)
                history = None if history is None else history.select(going)
            logits = runtime.next_logits(chosen[:, None], None, self._state)
            self.timing.decode_tokens += len(rows)
            self.timing.decode_seconds += time.perf_counter() - started


def read_prompts(request: Request, state: RuntimeState | None) -> tuple[RuntimeState, Tensor, History | None]:
    """State, logits [b v] and history (where the sampler needs one) after the prompts, one row per sample."""
    runtime, samples = request.runtime, request.samples_per_prompt
    read = runtime.new_state(len(request.prompts)) if state is None else state
    logits = prefill(runtime, request.prompts, read)
    history = None
    if request.sampler.needs_history:
        repeated = [prompt for prompt in request.prompts for _ in range(samples)]
        history = History(repeated, vocab_size=logits.shape[-1], device=logits.device)
    if samples > 1:
        read, logits = read.fork(samples), logits.repeat_interleave(samples, dim=0)
    return read, logits, history


def logprobs_of(tokens: Tensor, logits: Tensor) -> list[float]:
    """log p of each token [b] under its row of logits [b v], in nats."""
    logits = logits.float()
    return (logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)).tolist()


def stream_tokens(
    model: LanguageModel | Runtime[Any],
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler | None = None,
    eos_id: int | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    samples_per_prompt: int = 1,
    state: RuntimeState | None = None,
    strategy: Strategy | None = None,
    first_row: int = 0,
    logprobs: bool = False,
) -> Stream:
    """Generate from a batch of prompts, delivering each token when it is made.

    Args:
        model: on any device, or a runtime that has one.
        prompts: token ids, at least one per prompt, lengths may differ.
        max_new_tokens: at most so many new tokens per row.
        sampler: None is greedy.
        eos_id: token that ends a row; None: none does.
        stop_ids: more tokens that end a row.
        seed: of the draws; a row's draws depend on the seed and the row's number only.
        samples_per_prompt: rows per prompt; the prompt is prefilled once.
        state: of the same runtime: what has been read before, one row per prompt; advanced in place. None starts
            anew. After the stream ends, the state holds everything but the last token of the row (with one row only:
            rows that end are dropped from larger states). Tokens read before do not count for a repetition penalty.
        strategy: one of `mamba_slm.generation.strategies`; None draws every token with the sampler as it comes.
        first_row: number of the first row, where these are rows of a longer list.
        logprobs: whether events say how likely their token was.

    Returns:
        A stream of `TokenEvent`s; its `timing` is complete when the iteration ends. Closing its iterator frees all
        that it holds.

    Raises:
        ConfigError: an empty prompt, a token outside the vocabulary, no room left in the model's context, or something
            that the strategy cannot do.
    """
    request = Request(
        runtime=as_runtime(model),
        prompts=[list(prompt) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        sampler=sampler or Sampler.greedy(),
        eos_id=eos_id,
        stop_ids=frozenset(stop_ids),
        seed=seed,
        samples_per_prompt=samples_per_prompt,
        state=state,
        first_row=first_row,
        logprobs=logprobs,
    )
    return TokenStream(request) if strategy is None else strategy.stream(request)


def generate(
    model: LanguageModel | Runtime[Any],
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler | None = None,
    eos_id: int | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    samples_per_prompt: int = 1,
    strategy: Strategy | None = None,
    on_token: Callable[[TokenEvent], None] = lambda event: None,
) -> GenerationResult:
    """Run `stream_tokens` to its end. Arguments and errors are the same.

    Args:
        on_token: told every event as it comes.
    """
    stream = stream_tokens(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        eos_id=eos_id,
        stop_ids=stop_ids,
        seed=seed,
        samples_per_prompt=samples_per_prompt,
        strategy=strategy,
    )
    tokens: list[list[int]] = [[] for _ in range(stream.num_rows)]
    reasons: list[FinishReason] = ["length"] * stream.num_rows
    for event in stream:
        on_token(event)
        if event.finish_reason not in ("eos", "stop_token"):
            tokens[event.row].append(event.token)
        reasons[event.row] = event.finish_reason or reasons[event.row]
    lengths = [len(prompt) for prompt in prompts for _ in range(samples_per_prompt)]
    scores = map(stream.score, range(stream.num_rows))
    completions = tuple(map(Completion, map(tuple, tokens), reasons, lengths, scores))
    return GenerationResult(completions, stream.timing)
