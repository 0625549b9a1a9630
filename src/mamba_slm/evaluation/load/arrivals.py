"""When requests arrive."""

from __future__ import annotations

import random
from collections.abc import Iterator

from mamba_slm.evaluation.load.settings import Arrivals


def arrival_times(rate: float, count: int, *, arrivals: Arrivals, source: random.Random) -> Iterator[float]:
    """Seconds from the first request on, which arrives at 0; growing.

    Distances of `poisson` are exponential with mean 1/rate, so that the requests of any stretch are independent of
    those of any other; distances of `fixed` are 1/rate.

    >>> list(arrival_times(4.0, 3, arrivals="fixed", source=random.Random(0)))
    [0.0, 0.25, 0.5]
    """
    now = 0.0
    for number in range(count):
        yield now if arrivals == "poisson" else number / rate
        now += source.expovariate(rate)
