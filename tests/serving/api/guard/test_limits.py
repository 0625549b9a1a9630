"""Promises of buckets: never more than the limit and the time allow, and what is owed is paid."""

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.serving.api.guard.limits import MOST_ALLOWANCES, Allowance, Allowances, Bucket


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 120), st.integers(1, 50)), max_size=30),
)
def test_what_is_let_in_is_bounded_by_a_full_bucket_and_the_time_passed(per_minute, asked):
    clock = Clock()
    allowance = Allowance(per_minute, None, clock=clock)
    let_in = 0
    for seconds, requests in asked:
        clock.now += seconds
        let_in += sum(allowance.take_request() is None for _ in range(requests))
        assert let_in <= per_minute + clock.now * per_minute / 60 + 1e-6


@given(st.integers(1, 1000), st.integers(0, 5000))
def test_after_the_time_that_was_told_the_next_one_is_let_in(per_minute, spent):
    clock = Clock()
    allowance = Allowance(None, per_minute, clock=clock)
    allowance.spend_tokens(spent)
    refusal = allowance.take_request()
    assert (refusal is None) == (spent <= per_minute - 1)
    if refusal is not None:
        assert (refusal.what, refusal.per_minute) == ("tokens", per_minute)
        clock.now += refusal.seconds + 1e-6
        assert allowance.take_request() is None


def test_a_bucket_never_holds_more_than_a_minute():
    clock = Clock()
    bucket = Bucket(60, clock=clock)
    clock.now = 3600
    assert bucket.level == 60 and bucket.seconds_until(60) == 0
    bucket.take(90)
    assert bucket.level == -30 and bucket.seconds_until(1) == 31


def test_headers_are_those_of_openai():
    clock = Clock()
    allowance = Allowance(60, 600, clock=clock)
    assert allowance.take_request() is None
    allowance.spend_tokens(100)
    headers = {name.decode(): value.decode() for name, value in allowance.headers()}
    assert headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "500",
        "x-ratelimit-reset-tokens": "10s",
    }


def test_every_caller_has_an_allowance_of_its_own_which_a_changed_limit_renews():
    allowances = Allowances(clock=Clock())
    assert allowances.of("a", None, None) is None
    first = allowances.of("a", 1, None)
    assert first.take_request() is None and first.take_request() is not None
    assert allowances.of("a", 1, None) is first and allowances.of("b", 1, None).take_request() is None
    assert allowances.of("a", 2, None).take_request() is None


def test_callers_that_are_remembered_are_bounded():
    allowances = Allowances(clock=Clock())
    first = allowances.of("first", 1, None)
    for number in range(MOST_ALLOWANCES):
        allowances.of(str(number), 1, None)
    assert allowances.of("first", 1, None) is not first
