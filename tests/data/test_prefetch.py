"""Batches that a thread reads ahead are those of the loader, and what was read ahead is forgotten, never skipped."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.prefetch import PrefetchingLoader


def same(first, second):
    return np.array_equal(first.inputs, second.inputs) and np.array_equal(first.document_ids, second.document_ids)


@pytest.fixture
def mixture(write_shards):
    sources = [
        ("a", write_shards("a", [2, 30, 5, 5, 17, 100]), 0.7),
        ("b", write_shards("b", [12] * 7, first_token=1000), 0.3),
    ]
    return Mixture(sources, context_tokens=8, seed=4)


@pytest.fixture
def make(mixture):
    """`make(ahead)`: a loader that reads so many batches ahead, or none; those that read are closed."""
    made = []

    def loader(ahead, **sizes):
        plain = BatchLoader(mixture, **{"batch_rows": 3, **sizes})
        if not ahead:
            return plain
        made.append(PrefetchingLoader(plain, ahead=ahead))
        return made[-1]

    yield loader
    for reading in made:
        reading.close()


@given(before=st.integers(0, 12), ahead=st.integers(1, 4), world=st.integers(1, 2))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_batches_and_states_are_those_of_the_loader_at_every_place(make, before, ahead, world):
    sizes = {"rank": world - 1, "world_size": world}
    plain, reading = make(0, **sizes), make(ahead, **sizes)
    for _ in range(before):
        assert same(next(plain), next(reading))
    assert reading.state_dict() == plain.state_dict() and reading.sample == plain.sample
    resumed = make(ahead, **sizes)
    next(resumed)
    resumed.load_state_dict(reading.state_dict())
    for _ in range(3):
        assert same(next(plain), next(resumed))


def test_what_was_read_ahead_is_made_in_another_thread_and_never_more_than_asked_for(make):
    reading = make(2)
    threads, places = set(), []
    batch_at = reading.loader.batch_at

    def watched(sample):
        threads.add(threading.current_thread().name)
        places.append(sample)
        return batch_at(sample)

    reading.loader.batch_at = watched
    for _ in range(5):
        next(reading)
    reading.close()
    assert threads == {"read-ahead_0"}
    assert places == sorted(places) and max(places) <= 3 * (5 + 2)


def test_an_error_comes_up_at_its_batch_and_the_place_stays(make):
    reading, plain = make(3), make(0)
    batch_at = reading.loader.batch_at
    broken = True

    def failing(sample):
        if sample == 6 and broken:
            raise DataError("the shard is damaged")
        return batch_at(sample)

    reading.loader.batch_at = failing
    for _ in range(2):
        assert same(next(plain), next(reading))
    for _ in range(2):
        with pytest.raises(DataError, match="the shard is damaged"):
            next(reading)
        assert reading.state_dict() == plain.state_dict()
    broken = False
    assert same(next(plain), next(reading))


def test_a_closed_loader_leaves_no_thread(make):
    before = set(threading.enumerate())  # tests before may have left loaders that nobody closes
    reading = make(2)
    next(reading)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["read-ahead_0"]
    reading.close()
    assert not set(threading.enumerate()) - before


def test_waiting_for_rows_is_counted(make):
    reading = make(1)
    let = threading.Event()
    batch_at = reading.loader.batch_at
    reading.loader.batch_at = lambda sample: (let.wait(), batch_at(sample))[1]
    taken = threading.Thread(target=next, args=(reading,))
    taken.start()
    assert reading.waited_seconds == 0
    let.set()
    taken.join()
    assert reading.waited_seconds > 0


def test_nothing_to_read_ahead_is_refused(make):
    with pytest.raises(ConfigError, match="ahead must be at least 1"):
        PrefetchingLoader(make(0), ahead=0)
