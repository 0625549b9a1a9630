"""pass@k without bias."""

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.tasks.code.passing import mean_and_error, pass_at_k


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_choices_of_k_tries_that_hold_a_passed_one(numbers):
    tries, passed, k = numbers
    choices = list(itertools.combinations([True] * passed + [False] * (tries - passed), k))
    assert pass_at_k(tries, passed, k) == pytest.approx(sum(map(any, choices)) / len(choices), abs=1e-12)


def test_many_tries_neither_overflow_nor_lose_digits():
    assert pass_at_k(100_000, 1, 100) == pytest.approx(1e-3, rel=1e-9)
    assert pass_at_k(2000, 1000, 1000) == 1.0


@pytest.mark.parametrize("tries, passed, k", [(1, 0, 2), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_what_cannot_be_estimated_is_refused(tries, passed, k):
    with pytest.raises(ConfigError, match=f"pass@{k} needs"):
        pass_at_k(tries, passed, k)


def test_the_standard_error_is_the_one_of_a_mean():
    values = [0.0, 0.5, 1.0, 1.0, 0.25]
    mean, error = mean_and_error(values)
    assert (mean, error) == (pytest.approx(0.55), pytest.approx(statistics.stdev(values) / math.sqrt(5)))
    assert mean_and_error([0.5]) == (0.5, None)
