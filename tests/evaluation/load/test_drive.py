"""The load is what was asked for: so many at once and no more, all of them, the same for the same seed."""

import asyncio
import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from evaluation.load.scripted import serving, stream, tokens
from mamba_slm.evaluation.load.arrivals import arrival_times
from mamba_slm.evaluation.load.connection import Address, Connections
from mamba_slm.evaluation.load.drive import run_level
from mamba_slm.evaluation.load.prompts import SyntheticPrompts
from mamba_slm.evaluation.load.settings import LoadSettings


def run(settings, script=lambda path, body: stream(*tokens(3))):
    async def main():
        async with serving(script) as server:
            connections = Connections(Address.of(server.url))
            (level,) = settings.levels
            samples = await run_level(connections, settings, level, SyntheticPrompts(settings))
            connections.close()
            return server, samples

    return asyncio.run(main())


def test_at_most_so_many_are_under_way_and_all_are_sent():
    server, samples = run(LoadSettings(concurrency=(5,), requests=23, warmup=0))
    assert len(samples) == len(server.asked) == 23
    assert server.most_running <= 5
    assert server.connections == 5
    assert all(sample.error is None for sample in samples)
    path, body = server.asked[0]
    assert path == "/v1/completions"
    assert body["stream"] and body["temperature"] == 0 and body["ignore_eos"]


def test_the_warm_up_is_sent_and_not_counted_and_has_other_prompts():
    server, samples = run(LoadSettings(concurrency=(2,), requests=4, warmup=3))
    assert (len(samples), len(server.asked)) == (4, 7)
    assert len({body["prompt"] for _, body in server.asked}) == 7


def test_a_rate_sends_all_of_them_whatever_becomes_of_them():
    server, samples = run(LoadSettings(concurrency=(), rates=(1000.0,), requests=9, warmup=0))
    assert len(samples) == len(server.asked) == 9
    assert all(sample.sent >= sample.due for sample in samples)


@given(rate=st.floats(0.1, 1e4), count=st.integers(1, 50), arrivals=st.sampled_from(["poisson", "fixed"]))
def test_arrivals_begin_at_once_and_grow(rate, count, arrivals):
    times = list(arrival_times(rate, count, arrivals=arrivals, source=random.Random(1)))
    assert len(times) == count
    assert times[0] == 0
    assert times == sorted(times)


def test_arrivals_of_poisson_have_the_mean_and_the_spread_of_an_exponential_distance():
    times = list(arrival_times(4.0, 4001, arrivals="poisson", source=random.Random(0)))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert abs(mean - 0.25) < 0.02
    assert abs((sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 - 0.25) < 0.02
