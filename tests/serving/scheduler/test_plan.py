"""Promises of the scheduler, for any requests at any time."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.scheduler.job import Job, Limits
from mamba_slm.serving.scheduler.plan import held, plan

LIMITS = Limits(slots=3, block_tokens=4, step_tokens=8, ageing_seconds=5.0)
BLOCKS = 12


@st.composite
def situations(draw):
    """Jobs of which at most three run, within the blocks, and how many blocks are free."""
    jobs, used, running = [], 0, 0
    for number in range(draw(st.integers(0, 8))):
        place = draw(st.sampled_from(["waiting", "running", "suspended"]))
        tokens = 0 if place == "waiting" else draw(st.integers(1, 20))
        job = Job(
            number=number,
            submitted=draw(st.floats(0, 30)),
            place=place,
            unread=draw(st.integers(1, 20)) if place == "waiting" else draw(st.integers(0, 10)),
            tokens=tokens,
            priority=draw(st.integers(-2, 2)),
            tenant=draw(st.sampled_from(["a", "b"])),
        )
        if place == "running" and (running == LIMITS.slots or used + held(job, LIMITS) > BLOCKS):
            job = dataclasses.replace(job, place="suspended")
        running += job.place == "running"
        used += held(job, LIMITS)
        jobs.append(job)
    return jobs, BLOCKS - used


def total(numbers, jobs):
    return [next(job for job in jobs if job.number == number) for number in numbers]


@given(situations(), st.floats(30, 60), st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 99)))
def test_a_plan_stays_within_slots_blocks_and_tokens(situation, now, served):
    jobs, free = situation
    made = plan(jobs, free_blocks=free, limits=LIMITS, now=now, served=served)
    running = {job.number for job in jobs if job.place == "running"}
    assert set(made.suspend) <= running and not set(made.start) & running
    active = (running - set(made.suspend)) | set(made.start)
    assert len(active) <= LIMITS.slots
    assert len(made.decode) + sum(count for _, count in made.read) <= LIMITS.step_tokens
    assert set(made.decode) | {number for number, _ in made.read} <= active
    assert not set(made.decode) & {number for number, _ in made.read}
    after = {number: 1 for number in made.decode} | dict(made.read)
    used = sum(LIMITS.blocks(job.tokens + after.get(job.number, 0)) for job in total(active, jobs))
    assert used <= BLOCKS or len(active) == 1  # of one alone the engine has made sure that it fits
    assert all(
        count <= job.unread
        for job, count in zip(total([n for n, _ in made.read], jobs), dict(made.read).values(), strict=True)
    )


@given(situations(), st.floats(30, 60))
def test_every_running_request_that_makes_tokens_makes_one(situation, now):
    jobs, free = situation
    made = plan(jobs, free_blocks=free, limits=LIMITS, now=now)
    for job in jobs:
        if job.place == "running" and not job.unread:
            assert (job.number in made.decode) != (job.number in made.suspend)


@given(situations(), st.floats(30, 60), st.randoms())
def test_a_plan_depends_on_its_arguments_alone_and_not_on_their_order(situation, now, random):
    jobs, free = situation
    made = plan(jobs, free_blocks=free, limits=LIMITS, now=now)
    shuffled = random.sample(jobs, len(jobs))
    assert plan(shuffled, free_blocks=free, limits=LIMITS, now=now) == made


@given(situations(), st.floats(30, 60))
def test_nobody_is_started_before_one_who_is_more_urgent(situation, now):
    jobs, free = situation
    made = plan(jobs, free_blocks=free, limits=LIMITS, now=now)
    queue = [job for job in jobs if job.place != "running"]
    started = [job for job in queue if job.number in made.start]
    passed = [job for job in queue if job.number not in made.start]
    for one, other in itertools.product(started, passed):
        assert (LIMITS.level(one, now), one.number) <= (LIMITS.level(other, now), other.number)


@given(situations(), st.floats(30, 60))
def test_a_running_request_is_suspended_for_a_higher_priority_or_for_lack_of_memory_only(situation, now):
    jobs, free = situation
    made = plan(jobs, free_blocks=free, limits=LIMITS, now=now)
    if made.suspend and made.start:
        most_urgent = min(job.priority for job in total(made.start, jobs))
        assert all(job.priority > most_urgent for job in total(made.suspend, jobs))
    elif made.suspend:
        running = [job for job in jobs if job.place == "running"]
        wanted = sum(LIMITS.blocks(j.tokens + max(j.unread, 1)) - held(j, LIMITS) for j in running)
        assert wanted > free


@given(situations(), st.floats(30, 60))
def test_work_is_done_whenever_there_is_some_that_fits(situation, now):
    jobs, free = situation
    made = plan(jobs, free_blocks=free, limits=LIMITS, now=now)
    fitting = [job for job in jobs if LIMITS.blocks(job.tokens + max(job.unread, 1)) <= BLOCKS]
    if len(fitting) == len(jobs) and jobs:
        assert made.decode or made.read


def simulate(arrivals, *, steps, limits=LIMITS, blocks=BLOCKS):
    """Run plans against a clock of one second per step; yields (second, jobs, plan)."""
    jobs, left, served = {}, {}, {}
    for now in range(steps):
        for job, makes in arrivals(now):
            jobs[job.number], left[job.number] = job, makes
        free = blocks - sum(held(job, limits) for job in jobs.values())
        made = plan(list(jobs.values()), free_blocks=free, limits=limits, now=float(now), served=served)
        yield now, dict(jobs), made
        for number in made.suspend:
            jobs[number] = dataclasses.replace(jobs[number], place="suspended")
        for number in made.start:
            jobs[number] = dataclasses.replace(jobs[number], place="running")
        for number, count in [*made.read, *((number, 0) for number in made.decode)]:
            job = jobs[number]
            made_token = 0 if count else 1
            jobs[number] = dataclasses.replace(job, tokens=job.tokens + count + made_token, unread=job.unread - count)
            served[job.tenant] = served.get(job.tenant, 0) + count + made_token
            left[number] -= made_token
            if left[number] == 0:
                del jobs[number], left[number]


def test_an_old_request_of_low_priority_is_started_under_a_stream_of_urgent_ones():
    numbers = itertools.count(1)

    def arrivals(now):
        new = [(Job(number=next(numbers), submitted=now, place="waiting", unread=3, priority=-1), 4) for _ in range(2)]
        return [*([(Job(number=0, submitted=0, place="waiting", unread=3, priority=1), 4)] if now == 0 else []), *new]

    assert any(0 in made.start for _, _, made in simulate(arrivals, steps=40))


def test_tenants_get_equal_turns_however_many_requests_one_has():
    numbers = itertools.count()

    def arrivals(now):
        if now:
            return []
        jobs = [Job(number=next(numbers), submitted=0, place="waiting", unread=4, tenant="many") for _ in range(20)]
        jobs += [Job(number=next(numbers), submitted=0, place="waiting", unread=4, tenant="few") for _ in range(4)]
        return [(job, 3) for job in jobs]

    order = [number for _, _, made in simulate(arrivals, steps=60) for number in made.start]
    assert len(order) == 24
    assert max(order.index(number) for number in range(20, 24)) < 12


def test_a_request_comes_back_from_suspension_with_all_that_it_had_read():
    def arrivals(now):
        low = [Job(number=n, submitted=0, place="waiting", unread=4, priority=1) for n in range(3)]
        high = Job(number=9, submitted=2, place="waiting", unread=4)
        return [(job, 6) for job in low] if now == 0 else [(high, 2)] if now == 2 else []

    suspended, back = {}, {}
    for _, jobs, made in simulate(arrivals, steps=30):
        for number in made.suspend:
            suspended[number] = jobs[number].tokens
        for number in made.start:
            if number in suspended:
                back[number] = jobs[number].tokens
    assert len(suspended) == 1 and back == suspended


def test_prompts_that_do_not_fit_hold_up_those_behind_them_so_that_nobody_overtakes_for_ever():
    big = Job(number=0, submitted=0, place="waiting", unread=40)
    small = Job(number=1, submitted=0, place="waiting", unread=1)
    holder = Job(number=2, submitted=0, place="running", unread=0, tokens=9)
    made = plan([big, small, holder], free_blocks=9, limits=LIMITS, now=1.0)
    assert made.start == () and made.decode == (2,)


def test_who_can_take_over_what_another_reads_waits_for_it_and_holds_up_nobody():
    reader = Job(number=0, submitted=0, place="running", unread=5, tokens=3)
    follower = Job(number=1, submitted=0, place="waiting", unread=8, waits_for=0)
    other = Job(number=2, submitted=0, place="waiting", unread=2)
    made = plan([reader, follower, other], free_blocks=9, limits=LIMITS, now=1.0)
    assert made.start == (2,)
    done = dataclasses.replace(reader, unread=0, tokens=8)
    assert 1 in plan([done, follower, other], free_blocks=9, limits=LIMITS, now=1.0).start


def test_a_step_of_fewer_tokens_than_rows_is_refused():
    with pytest.raises(ConfigError, match="step_tokens=4 leaves nothing"):
        Limits(slots=4, block_tokens=1, step_tokens=4)
