"""Beam search: keep the most likely continuations of a prompt, several at a time.

Letters: `b` rows, `v` vocabulary.

Results are those of transformers' `_beam_search` (generation/utils.py, 5.23) without sampling, score for score: the
score of a row is the sum of its log-probabilities divided by length ** length_penalty; only the best `beams` candidates
of a step may end a result; the others are there so that enough beams stay open.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.events import Timing, TokenEvent
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.request import Request
from mamba_slm.generation.runtime import RuntimeState
from mamba_slm.generation.strategies.history import History
from mamba_slm.generation.strategies.replay import Found, best_first, replay, require_greedy, require_one_result

EarlyStopping = Literal["likely", "full", "never"]
"""When a search ends: `likely`: no open beam, at its present length, beats the worst of `beams` results; `full`: there
are `beams` results; `never`: no open beam could beat it at any length. In transformers: False, True, "never"."""


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """Follow the `beams` most likely continuations; the request's samples per prompt are that many best results."""

    beams: int = 4
    """Continuations that are kept open, and results that are kept."""

    length_penalty: float = 1.0
    """A score is divided by length to this power: above 0 favours long results, below 0 short ones."""

    early_stopping: EarlyStopping = "likely"
    """When to stop."""

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ConfigError(f"beams must be at least 1, got {self.beams}")
        if self.early_stopping not in ("likely", "full", "never"):
            raise ConfigError(f"early_stopping must be likely, full or never, got {self.early_stopping!r}")

    def stream(self, request: Request) -> BeamStream:
        """All tokens of a result come at once, when its prompt's search has ended.

        Raises:
            ConfigError: more results than beams, a sampler that draws, or a state with several rows.
        """
        require_greedy(request, "beam search")
        require_one_result(request, "beam search")
        if request.samples_per_prompt > self.beams:
            raise ConfigError(
                f"{self.beams} beams give as many results at most, and {request.samples_per_prompt} were asked for",
                hint=f"use at least {request.samples_per_prompt} beams",
            )
        return BeamStream(self, request)


@dataclass
class Beam:
    """An open continuation."""

    score: float
    """Sum of log-probabilities."""
    tokens: tuple[int, ...]
    parent: int = 0
    """Its row in the step before."""


@dataclass
class Search:
    """The search for one prompt."""

    settings: BeamSearch
    request: Request
    room: int
    running: list[Beam] = field(default_factory=lambda: [Beam(0.0, ())])
    """Best first."""
    results: list[Found] = field(default_factory=list)
    """Best first, `beams` at most."""
    num_rows: int = 1
    """Beams that were open before the last step."""
    is_over: bool = False

    def advance(self, candidates: list[tuple[float, int, int]]) -> None:
        """One step.

        Args:
            candidates: (score, beam, token), best first; at least `(1 + end tokens) * beams` unless there are no more.
        """
        beams, made = self.settings.beams, len(self.running[0].tokens) + 1
        self.num_rows = len(self.running)
        is_full = self.settings.early_stopping == "full" and len(self.results) == beams
        open_beams: list[Beam] = []
        for rank, (score, parent, token) in enumerate(candidates):
            reason = self.request.finish_reason(token, made=made, room=self.room)
            tokens = (*self.running[parent].tokens, token)
            if reason is None:
                open_beams.append(Beam(score, tokens, parent))
            elif rank < beams and not is_full:
                self.results.append(Found(tokens, reason, score / made**self.settings.length_penalty))
        self.running = open_beams[:beams]
        self.results = best_first(self.results)[:beams]
        self.is_over = not self.running or (
            len(self.results) == beams and (self.settings.early_stopping == "full" or not self.can_improve(made))
        )

    def can_improve(self, made: int) -> bool:
        """Whether the best open beam may still beat the worst result, as far as `early_stopping` looks."""
        looks_ahead = self.settings.early_stopping == "never" and self.settings.length_penalty > 0
        length = min(self.request.max_new_tokens, self.room) if looks_ahead else made
        return self.running[0].score / length**self.settings.length_penalty > self.results[-1].score


class BeamStream:
    """See `BeamSearch.stream`."""

    def __init__(self, settings: BeamSearch, request: Request):
        self.timing = Timing()
        self._settings = settings
        self._request = request
        self._searches = [Search(settings, request, room) for room in request.room]
        self._dropped: set[int] = set()

    @property
    def num_rows(self) -> int:
        """Prompts times results per prompt."""
        return self._request.num_rows

    def stop_row(self, row: int) -> None:
        """Deliver no more tokens of `row`."""
        self._dropped.add(row)

    def score(self, row: int) -> float | None:
        """Sum of log-probabilities / length ** length_penalty."""
        prompt, rank = divmod(row, self._request.samples_per_prompt)
        results = self._searches[prompt].results
        return results[rank].score if rank < len(results) else None

    def __iter__(self) -> Iterator[TokenEvent]:
        request, runtime = self._request, self._request.runtime
        started = time.perf_counter()
        earlier = request.state
        state: RuntimeState = runtime.new_state(len(request.prompts)) if earlier is None else earlier.snapshot()
        logits = prefill(runtime, request.prompts, state)
        history = None
        if request.sampler.needs_history:
            history = History(request.prompts, vocab_size=logits.shape[-1], device=logits.device)
        self.timing.prefill_tokens = sum(map(len, request.prompts))
        self.timing.prefill_seconds = time.perf_counter() - started

        going = list(enumerate(self._searches))
        while True:
            started = time.perf_counter()
            self._step([search for _, search in going], logits, history)
            self.timing.decode_seconds += time.perf_counter() - started
            for number, search in going:
                if search.is_over:
                    yield from self._deliver(number, search)
            started = time.perf_counter()
            parents: list[int] = []
            first = 0  # the row at which the beams of a search stood in this step
            for _, search in going:
                parents += [] if search.is_over else [first + beam.parent for beam in search.running]
                first += search.num_rows
            going = [(number, search) for number, search in going if not search.is_over]
            if not going:
                return
            tokens = [beam.tokens[-1] for _, search in going for beam in search.running]
            if parents != list(range(first)):
                state = state.select(torch.tensor(parents, device=logits.device))
            if history is not None:
                history = history.select(parents)
                history.append(tokens)
            logits = runtime.next_logits(torch.tensor(tokens, device=logits.device)[:, None], None, state)
            self.timing.decode_tokens += len(tokens)
            self.timing.decode_seconds += time.perf_counter() - started

    def _step(self, searches: list[Search], logits: Tensor, history: History | None) -> None:
        """Let every search choose among the continuations of its beams, whose logits stand one after the other."""
        request = self._request
        width = (1 + max(1, len(request.stop_ids | {request.eos_id} - {None}))) * self._settings.beams
        scores = request.sampler.processed(logits.float().log_softmax(dim=-1), history)
        scores = scores + logits.new_tensor([[beam.score] for search in searches for beam in search.running])
        best, tokens = scores.topk(min(width, scores.shape[-1]), dim=-1)
        rows = list(zip(best.tolist(), tokens.tolist(), strict=True))
        for search in searches:
            mine, rows = rows[: len(search.running)], rows[len(search.running) :]
            candidates = [
                (score, beam, token)
                for beam, (values, ids) in enumerate(mine)
                for score, token in zip(values, ids, strict=True)
                if score > -float("inf")
            ]
            search.advance(sorted(candidates, key=lambda candidate: -candidate[0])[:width])

    def _deliver(self, number: int, search: Search) -> Iterator[TokenEvent]:
        samples = self._request.samples_per_prompt
        for rank, found in enumerate(search.results[:samples]):
            yield from replay(self._request, number * samples + rank, found, self._dropped)
