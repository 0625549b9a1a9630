"""Bounds of histograms. Those under vLLM's names are vLLM's (its `v1/metrics/loggers.py` and `buckets.py`), so that
quantiles of both can be laid beside each other; a small model needs finer ones, too, which break no query.
"""

from __future__ import annotations

Bounds = tuple[float, ...]

FIRST_TOKEN_SECONDS: Bounds = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""From submission until the first token; 0.0025 is ours."""

TOKEN_SECONDS: Bounds = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""From a token to the next; those below 0.01 are ours."""

REQUEST_SECONDS: Bounds = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0),
    *(60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
"""Of a whole request or a part of it; those below 0.3 are ours."""

STEP_SECONDS: Bounds = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STEP_TOKENS: Bounds = tuple(map(float, (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)))
ANSWERS: Bounds = (1.0, 2.0, 5.0, 10.0, 20.0)
SUSPENSIONS: Bounds = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
HTTP_SECONDS: Bounds = (0.1, 0.5, 1.0)
"""By address, of prometheus-fastapi-instrumentator, which vLLM uses."""
HTTP_FINE_SECONDS: Bounds = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5),
    *(10.0, 30.0, 60.0),
)
"""Of all addresses together; its, too."""


def lengths(context_tokens: int) -> Bounds:
    """1, 2, 5, 10, 20, 50 … up to a model's context.

    >>> lengths(100)
    (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    """
    bounds: list[float] = []
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power > context_tokens:
                return tuple(bounds)
            bounds.append(float(factor * power))
        power *= 10
