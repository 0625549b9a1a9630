import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.schedule import Limits, Schedule

share = st.floats(0, 1)
kinds = st.sampled_from(["cosine", "wsd", "constant"])


@st.composite
def schedules(draw):
    warmup = draw(st.floats(0, 0.5))
    return Schedule(
        kind=draw(kinds),
        peak=draw(st.floats(1e-6, 1)),
        warmup_share=warmup,
        decay_share=draw(st.floats(0, 0.5)),
        final_share=draw(share),
    )


@given(schedules(), share)
def test_the_rate_never_leaves_zero_to_peak(schedule, progress):
    assert 0 <= schedule.learning_rate_at(progress) <= schedule.peak * (1 + 1e-12)


@given(schedules(), share, share)
def test_the_rate_rises_while_warming_up_and_never_afterwards(schedule, a, b):
    early, late = sorted((a, b))
    if late <= schedule.warmup_share:
        assert schedule.learning_rate_at(early) <= schedule.learning_rate_at(late)
    if early >= schedule.warmup_share:
        assert schedule.learning_rate_at(early) >= schedule.learning_rate_at(late) - 1e-15


@given(schedules())
def test_the_peak_is_reached_when_the_warm_up_ends(schedule):
    assert schedule.learning_rate_at(schedule.warmup_share) == pytest.approx(schedule.peak)


@given(schedules(), share)
def test_the_schedule_has_no_jumps(schedule, progress):
    warmup, decay = schedule.warmup_share, schedule.decay_share
    steep = 0 < warmup < 1e-3 or (schedule.kind == "wsd" and 0 < decay < 1e-3)
    assume(not steep and not (schedule.kind == "wsd" and decay == 0))  # as good as a jump, as asked for
    slope = (1 / warmup if warmup else 0) + (1 / decay if decay else 0) + 10
    near = schedule.learning_rate_at(min(1.0, progress + 1e-9))
    assert abs(near - schedule.learning_rate_at(progress)) <= schedule.peak * (slope * 1e-9 + 1e-12)


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
def test_the_run_ends_at_the_final_share(kind):
    schedule = Schedule(kind=kind, peak=3e-3, warmup_share=0.02, decay_share=0.2, final_share=0.1)
    assert schedule.learning_rate_at(1.0) == pytest.approx(3e-4)
    assert schedule.learning_rate_at(2.0) == pytest.approx(3e-4)


def test_cosine_is_halfway_down_in_the_middle_of_what_follows_the_warm_up():
    schedule = Schedule(kind="cosine", peak=1.0, warmup_share=0.2, decay_share=0, final_share=0.1)
    assert schedule.learning_rate_at(0.6) == pytest.approx(0.55)


def test_wsd_is_flat_until_its_decay_begins_and_then_a_straight_line():
    schedule = Schedule(kind="wsd", peak=1.0, warmup_share=0.1, decay_share=0.4, final_share=0.0)
    assert {schedule.learning_rate_at(p) for p in (0.1, 0.3, 0.6)} == {1.0}
    assert schedule.learning_rate_at(0.8) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"warmup_share": -0.1},
        {"warmup_share": 1.1},
        {"decay_share": 2.0},
        {"final_share": 1.5},
        {"peak": 0.0},
        {"peak": math.nan},
        {"kind": "wsd", "warmup_share": 0.6, "decay_share": 0.6},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(change):
    good = {"kind": "cosine", "peak": 1e-3, "warmup_share": 0.02, "decay_share": 0.2, "final_share": 0.1}
    Schedule(**good)
    with pytest.raises(ConfigError):
        Schedule(**{**good, **change})


counts = st.integers(1, 10**9)


@given(counts, counts, st.floats(1, 1e6), counts, counts, st.floats(0, 1e6))
def test_progress_is_the_largest_share_used_up_of_any_limit(max_tokens, max_steps, max_seconds, tokens, steps, seconds):
    limits = Limits(tokens=max_tokens, steps=max_steps, seconds=max_seconds)
    progress = limits.progress(tokens=tokens, steps=steps, seconds=seconds)
    assert progress == min(1.0, max(tokens / max_tokens, steps / max_steps, seconds / max_seconds))
    assert (progress == 1.0) == (limits.reached(tokens=tokens, steps=steps, seconds=seconds) is not None)


def test_a_limit_that_is_not_given_never_ends_a_run():
    for given_limit in ({"tokens": 10}, {"steps": 10}, {"seconds": 10.0}):
        limits = Limits(**given_limit)
        huge = {"tokens": 10**12, "steps": 10**12, "seconds": 1e12}
        (name,) = given_limit
        assert limits.reached(**{**huge, name: 9}) is None
        assert limits.reached(**{**huge, name: 10}) is not None


def test_the_limit_that_ended_a_run_is_named():
    limits = Limits(tokens=2_000_000, steps=800, seconds=90)
    assert limits.reached(tokens=0, steps=800, seconds=0) == "800 steps"
    assert limits.reached(tokens=2_000_000, steps=0, seconds=0) == "2,000,000 tokens"
    assert limits.reached(tokens=0, steps=0, seconds=90) == "1.5 minutes"


def test_a_run_without_an_end_is_refused_with_the_flags_that_give_one():
    with pytest.raises(ConfigError) as refused:
        Limits()
    assert "--max-tokens" in refused.value.hint
    for name, value in itertools.product(("tokens", "steps", "seconds"), (0, -1)):
        with pytest.raises(ConfigError):
            Limits(**{name: value})
    with pytest.raises(ConfigError, match=r"minutes must be > 0, got -3$"):  # as it was asked for
        Limits(seconds=-180)
