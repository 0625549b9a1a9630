"""Contrastive search: of the k most likely tokens, the one whose hidden state is least like what came before.

Letters: `b` rows, `k` candidates, `t` time, `d` width, `v` vocabulary.

Source: Su et al., "A Contrastive Framework for Neural Text Generation", arXiv:2202.06417, whose code (SimCTG) ranks

    (1 - alpha) p(token) - alpha max_j cos(h(token), h_j)

with h after the final norm and j over the whole context. Every candidate must be read to know its hidden state. An
attention layer's cache can be cropped afterwards, the state of a Mamba layer cannot; so the state is forked into k, the
candidates are read side by side, and the chosen one's state goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation import prefill as reading
from mamba_slm.generation.events import Timing, TokenEvent
from mamba_slm.generation.generate import logprobs_of
from mamba_slm.generation.request import Request
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.strategies.history import History
from mamba_slm.generation.strategies.replay import require_greedy, require_one_result
from mamba_slm.model.state import InferenceState


@dataclass(frozen=True, kw_only=True)
class ContrastiveSearch:
    """Balance likelihood against likeness to the context."""

    k: int = 4
    """Candidates per token."""

    alpha: float = 0.6
    """Weight of likeness: 0 is greedy, 1 looks at likeness only."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"contrastive search needs at least 1 candidate, got k = {self.k}")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"the penalty alpha must lie in [0, 1], got {self.alpha}", hint="the paper uses 0.6")

    def stream(self, request: Request) -> ContrastiveStream:
        """Tokens come as they are chosen.

        Raises:
            ConfigError: a runtime that does not show hidden states, several samples of a prompt (which would be equal),
                a sampler that draws, or a state with several rows.
        """
        require_greedy(request, "contrastive search")
        require_one_result(request, "contrastive search")
        if request.samples_per_prompt > 1:
            raise ConfigError(
                "contrastive search gives one result per prompt", hint="use sampling or beams for several"
            )
        if not isinstance(request.runtime, TorchRuntime):
            raise ConfigError(
                f"contrastive search needs hidden states, which {request.runtime.description} does not show",
                hint="use --runtime torch or compiled",
            )
        return ContrastiveStream(self, request, request.runtime)


class ContrastiveStream:
    """See `ContrastiveSearch.stream`."""

    def __init__(self, settings: ContrastiveSearch, request: Request, runtime: TorchRuntime):
        self.timing = Timing()
        self._settings = settings
        self._request = request
        self._runtime, self._model = runtime, runtime.model
        self._dropped: set[int] = set()

    @property
    def num_rows(self) -> int:
        """One per prompt."""
        return self._request.num_rows

    def stop_row(self, row: int) -> None:
        """Make no more tokens for `row`."""
        self._dropped.add(row)

    def score(self, row: int) -> None:
        """Nothing is ranked."""

    def __iter__(self) -> Iterator[TokenEvent]:
        request = self._request
        k = min(self._settings.k, request.runtime.config.vocab_size)
        started = time.perf_counter()
        state = self._model.new_state(len(request.prompts)) if request.state is None else request.state.snapshot()
        assert isinstance(state, InferenceState)
        logits, context, is_real = self._read_prompts(state)
        if request.state is not None:
            request.state.restore(state)
        history = None
        if request.sampler.needs_history:
            history = History(request.prompts, vocab_size=logits.shape[-1], device=logits.device)
        self.timing.prefill_tokens = sum(map(len, request.prompts))
        self.timing.prefill_seconds = time.perf_counter() - started

        rows = list(range(self.num_rows))
        for made in range(1, request.max_new_tokens + 1):
            started = time.perf_counter()
            probabilities, candidates = request.sampler.processed(logits, history).softmax(dim=-1).topk(k, dim=-1)
            tried = state.fork(k)
            next_logits, hidden = self._runtime.next_hidden(candidates.reshape(-1, 1), tried)  # [b*k v], [b*k d]
            likeness = largest_cosine(hidden.view(len(rows), k, -1), context, is_real)
            alpha = self._settings.alpha
            choice = ((1 - alpha) * probabilities - alpha * likeness).argmax(dim=-1)  # [b]
            chosen = candidates.gather(-1, choice[:, None])[:, 0]
            tokens = chosen.tolist()
            logprobs = logprobs_of(chosen, logits) if request.logprobs else [None] * len(rows)
            events = [
                TokenEvent(row, token, request.finish_reason(token, made=made, room=request.room[row]), logprob)
                for row, token, logprob in zip(rows, tokens, logprobs, strict=True)
            ]
            self.timing.decode_tokens += len(rows)
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
            kept = torch.tensor(going, device=chosen.device)
            places = kept * k + choice[kept]  # of the chosen candidates among those tried
            state, logits = tried.select(places), next_logits[places]
            context = torch.cat([context[kept], unit(hidden[places])[:, None]], dim=1)
            is_real = torch.cat([is_real[kept], is_real.new_ones(len(going), 1)], dim=1)
            history = None if history is None else history.select(going)
            rows = [rows[place] for place in going]
            if request.state is not None:
                request.state.restore(state)
            self.timing.decode_seconds += time.perf_counter() - started

    @torch.no_grad()
    def _read_prompts(self, state: InferenceState) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [b v] after each prompt, hidden states [b t d] of unit length, and where they are real [b t]."""
        tokens, mask = reading.right_padded(self._request.prompts, device=self._model.embedding.weight.device)
        is_padded, size = not bool(mask.all()), reading.PREFILL_PIECE_TOKENS
        pieces = [
            self._model.hidden_states(
                tokens[:, start : start + size],
                padding_mask=mask[:, start : start + size] if is_padded else None,
                state=state,
            )
            for start in range(0, tokens.shape[1], size)
        ]
        hidden = torch.cat(pieces, dim=1)
        last = hidden[torch.arange(len(tokens), device=tokens.device), mask.sum(dim=1) - 1]
        return self._model.logits(last), unit(hidden), mask


def unit(hidden: Tensor) -> Tensor:
    """Vectors [... d] in float32, divided by their lengths."""
    return torch.nn.functional.normalize(hidden.float(), dim=-1)


def largest_cosine(candidates: Tensor, context: Tensor, is_real: Tensor) -> Tensor:
    """[b k]: the largest cosine of each candidate [b k d] with those vectors of unit length [b t d] that are real."""
    cosines = torch.einsum("bkd,btd->bkt", unit(candidates), context)
    return cosines.masked_fill(~is_real[:, None], -torch.inf).amax(dim=-1)
