"""How many questions are solved within k tries, estimated from n."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mamba_slm.core.errors import ConfigError


def pass_at_k(tries: int, passed: int, k: int) -> float:
    """Probability that one of k tries passes, given `passed` of `tries`: 1 - C(n - c, k) / C(n, k), without bias.

    Taking 1 - (1 - c/n)^k instead is too low. Formula 1 of arXiv:2107.03374 in whole numbers.

    >>> pass_at_k(1, 1, 1), pass_at_k(10, 3, 1), pass_at_k(4, 1, 2)
    (1.0, 0.3, 0.5)

    Raises:
        ConfigError: fewer tries than k, or more passed than tried.
    """
    if not (1 <= k <= tries and 0 <= passed <= tries):
        raise ConfigError(f"pass@{k} needs at least {k} tries, of which {passed} passed; there are {tries}")
    ways = math.comb(tries, k)
    return (ways - math.comb(tries - passed, k)) / ways


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over questions and its standard error, as lm-evaluation-harness computes it; None for one question.

    >>> mean_and_error([0.0, 1.0, 1.0, 1.0])
    (0.75, 0.25)
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))
