"""Batch-invariant generation: what a row returns is, to the last bit, what it returns alone.

A matrix product of 64 rows may add in another order than one of a single row, and prompts of different lengths are
padded, so the logits of a batch differ from those of single runs by rounding. Here every row is computed by itself, at
the price of speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mamba_slm.generation.events import Stream, Timing, TokenEvent
from mamba_slm.generation.generate import TokenStream
from mamba_slm.generation.request import Request, Strategy
from mamba_slm.generation.strategies.replay import require_one_result


@dataclass(frozen=True, kw_only=True)
class Separate:
    """Run every row (with a strategy: every prompt) of a request by itself, a token of each in turn."""

    strategy: Strategy | None = None
    """Makes the rows; None draws every token as it comes."""

    def stream(self, request: Request) -> SeparateStream:
        """
        Raises:
            ConfigError: a state with several rows, or what the strategy refuses.
        """
        require_one_result(request, "a batch-invariant run")
        return SeparateStream(self, request)


class SeparateStream:
    """See `Separate.stream`."""

    def __init__(self, settings: Separate, request: Request):
        self._request = request
        self._rows_each = 1 if settings.strategy is None else request.samples_per_prompt
        self._parts: list[Stream] = []
        for number in range(request.num_rows // self._rows_each):
            prompt = request.prompts[number * self._rows_each // request.samples_per_prompt]
            part = replace(
                request,
                prompts=[prompt],
                samples_per_prompt=self._rows_each,
                first_row=request.first_row + number * self._rows_each,
            )
            self._parts.append(TokenStream(part) if settings.strategy is None else settings.strategy.stream(part))

    @property
    def timing(self) -> Timing:
        """Of all rows together."""
        total = Timing()
        for part in self._parts:
            total.add(part.timing)
        return total

    @property
    def num_rows(self) -> int:
        """Prompts times samples per prompt."""
        return self._request.num_rows

    def stop_row(self, row: int) -> None:
        """Make no more tokens for `row`."""
        self._parts[row // self._rows_each].stop_row(row % self._rows_each)

    def score(self, row: int) -> float | None:
        """Of the strategy."""
        return self._parts[row // self._rows_each].score(row % self._rows_each)

    def __iter__(self) -> Iterator[TokenEvent]:
        going = [(number * self._rows_each, iter(part)) for number, part in enumerate(self._parts)]
        while going:
            left: list[tuple[int, Iterator[TokenEvent]]] = []
            for first, events in going:
                event = next(events, None)
                if event is not None:
                    left.append((first, events))
                    yield replace(event, row=first + event.row)
            going = left
