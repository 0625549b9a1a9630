"""Best of n: draw several rows of each prompt and keep those that the model finds most likely per token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.events import FinishReason, Timing, TokenEvent
from mamba_slm.generation.generate import TokenStream
from mamba_slm.generation.request import Request
from mamba_slm.generation.strategies.replay import Found, best_first, replay, require_one_result


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """Draw `draws` rows per prompt; the request's samples per prompt are that many of the best."""

    draws: int
    """Rows drawn per prompt. The score of a row is the mean log-probability of its tokens under the model itself."""

    def stream(self, request: Request) -> BestOfStream:
        """All tokens of a row come at once, when every row has been drawn.

        Raises:
            ConfigError: fewer draws than rows asked for, or a state with several rows.
        """
        require_one_result(request, "best of n")
        if self.draws < request.samples_per_prompt:
            raise ConfigError(
                f"the best {request.samples_per_prompt} of {self.draws} draws were asked for",
                hint=f"draw at least {request.samples_per_prompt}",
            )
        return BestOfStream(self, request)


class BestOfStream:
    """See `BestOf.stream`."""

    def __init__(self, settings: BestOf, request: Request):
        self._settings = settings
        self._request = request
        inner = replace(
            request,
            samples_per_prompt=settings.draws,
            first_row=request.first_row // request.samples_per_prompt * settings.draws,
            state=None if request.state is None else request.state.snapshot(),
            logprobs=True,
        )
        self._draws = TokenStream(inner)
        self._scores: dict[int, float] = {}
        self._dropped: set[int] = set()

    @property
    def timing(self) -> Timing:
        """Of all draws."""
        return self._draws.timing

    @property
    def num_rows(self) -> int:
        """Prompts times results per prompt."""
        return self._request.num_rows

    def stop_row(self, row: int) -> None:
        """Deliver no more tokens of `row`."""
        self._dropped.add(row)

    def score(self, row: int) -> float | None:
        """Mean log-probability of a token, in nats."""
        return self._scores.get(row)

    def __iter__(self) -> Iterator[TokenEvent]:
        draws, samples = self._settings.draws, self._request.samples_per_prompt
        tokens: list[list[int]] = [[] for _ in range(self._draws.num_rows)]
        logprobs: list[list[float]] = [[] for _ in range(self._draws.num_rows)]
        reasons: dict[int, FinishReason] = {}
        for event in self._draws:
            assert event.logprob is not None
            tokens[event.row].append(event.token)
            logprobs[event.row].append(event.logprob)
            if event.finish_reason is not None:
                reasons[event.row] = event.finish_reason
        for prompt in range(len(self._request.prompts)):
            rows = range(prompt * draws, (prompt + 1) * draws)
            found = [
                Found(tuple(tokens[row]), reasons[row], sum(logprobs[row]) / len(logprobs[row]), tuple(logprobs[row]))
                for row in rows
            ]
            for rank, best in enumerate(best_first(found)[:samples]):
                self._scores[prompt * samples + rank] = best.score
                yield from replay(self._request, prompt * samples + rank, best, self._dropped)
