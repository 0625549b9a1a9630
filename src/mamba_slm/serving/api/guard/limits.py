"""How much a key may ask for: buckets that fill with time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_ALLOWANCES = 10_000
"""Clients whose limits are remembered; beyond them the one that asked longest ago begins anew."""


class Bucket:
    """Full at the beginning, refilled evenly, so much a minute. What is taken beyond its content is owed."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic):
        self.per_minute = per_minute
        self._clock, self._level, self._at = clock, float(per_minute), clock()

    @property
    def level(self) -> float:
        """What is in it now; negative: owed."""
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def seconds_until(self, amount: float) -> float:
        """How long until it holds so much; 0 where it does."""
        return max(0.0, (min(amount, self.per_minute) - self.level) * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        """Take it, whether it is there or not."""
        self._level = self.level - amount


@dataclass(frozen=True)
class Refusal:
    """Why a request must wait."""

    what: str
    """`requests` or `tokens`."""
    per_minute: int
    seconds: float
    """Until it may come back."""


class Allowance:
    """The limits of one key. A request is let in while there is a token left; what it uses is taken as it is used,
    so that nobody has to say beforehand how much that will be."""

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.limits = (requests_per_minute, tokens_per_minute)
        self.requests = None if requests_per_minute is None else Bucket(requests_per_minute, clock=clock)
        self.tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute, clock=clock)

    def take_request(self) -> Refusal | None:
        """Let a request in, or say why not."""
        for what, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None and bucket.level < 1:
                return Refusal(what, bucket.per_minute, bucket.seconds_until(1))
        if self.requests is not None:
            self.requests.take(1)
        return None

    def spend_tokens(self, count: int) -> None:
        """Count tokens that were read or made."""
        if self.tokens is not None:
            self.tokens.take(count)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`x-ratelimit-*` as OpenAI's API has them."""
        made = []
        for what, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                values = {
                    "limit": str(bucket.per_minute),
                    "remaining": str(max(0, int(bucket.level))),
                    "reset": duration(bucket.seconds_until(bucket.per_minute)),
                }
                made += [(f"x-ratelimit-{name}-{what}".encode(), value.encode()) for name, value in values.items()]
        return made


class Allowances:
    """Those of all callers."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._by_caller: OrderedDict[str, Allowance] = OrderedDict()

    def of(self, caller: str, requests_per_minute: int | None, tokens_per_minute: int | None) -> Allowance | None:
        """The one of a caller, new where its limits have changed; None where it has none."""
        if requests_per_minute is None and tokens_per_minute is None:
            return None
        found = self._by_caller.get(caller)
        if found is None or found.limits != (requests_per_minute, tokens_per_minute):
            found = self._by_caller[caller] = Allowance(requests_per_minute, tokens_per_minute, clock=self._clock)
        self._by_caller.move_to_end(caller)
        if len(self._by_caller) > MOST_ALLOWANCES:
            self._by_caller.popitem(last=False)
        return found


def duration(seconds: float) -> str:
    """As OpenAI writes it.

    >>> [duration(seconds) for seconds in (0, 0.0301, 7.5, 61, 3600)]
    ['0s', '31ms', '7.5s', '1m1s', '60m0s']
    """
    if 0 < seconds < 1:
        return f"{-int(-seconds * 1000 // 1)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
