"""What a saved place in the data is, what it refuses, and how weights and rows may change at it."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture


@pytest.fixture
def two(write_shards):
    return [("a", write_shards("a", [30] * 40), 0.75), ("b", write_shards("b", [12] * 60, first_token=5000), 0.25)]


def loader_of(sources, *, context_tokens=8, seed=4, changes=(), said=None):
    mixture = Mixture(sources, context_tokens=context_tokens, seed=seed, changes=changes)
    return BatchLoader(mixture, batch_rows=3, say=said.append if said is not None else pytest.fail)


def after(loader, batches):
    for _ in range(batches):
        next(loader)
    return json.loads(json.dumps(loader.state_dict()))


def sources_drawn(loader, first, count):
    names = [loader.mixture.sample(first + number).source for number in range(count)]
    return {name: names.count(name) for name in loader.mixture.names}


def test_a_state_is_a_sample_and_what_the_samples_are_of(two):
    state = after(loader_of(two), 5)
    assert (state["sample"], state["seed"], state["context_tokens"]) == (15, 4, 8)
    assert state["phases"] == [{"first_sample": 0, "units": {"a": 3, "b": 1}, "drawn": {"a": 0, "b": 0}}]
    assert {**after(loader_of(two), 9), "sample": 15} == state


PARTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 6)), min_size=1, max_size=5)


@given(parts=PARTS, change=st.integers(1, 60))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_stopped_anywhere_and_resumed_by_any_number_of_processes_the_rows_are_the_specified_ones(two, parts, change):
    mixture = Mixture(two, context_tokens=8, seed=4, changes=[(change, {"a": 1, "b": 2})])
    state = BatchLoader(mixture, batch_rows=1).state_dict()
    found = []
    for world_size, batch_rows, batches in parts:
        ranks = [BatchLoader(mixture, batch_rows=batch_rows, rank=k, world_size=world_size) for k in range(world_size)]
        for loader in ranks:
            loader.load_state_dict(json.loads(json.dumps(state)))
        for _ in range(batches):
            found += [row for loader in ranks for row in next(loader).inputs]
        state = ranks[0].state_dict()
        assert state["sample"] == len(found) and all(loader.state_dict() == state for loader in ranks)
    assert all(np.array_equal(row, mixture.row(number).inputs) for number, row in enumerate(found))


def test_changed_weights_hold_from_the_resume_on_without_catching_up(two):
    state = after(loader_of(two), 10)
    said = []
    changed = loader_of([(name, shards, 1) for name, shards, _ in two], said=said)
    changed.load_state_dict(state)
    assert said == ["the weights of the sources change at row 30: a 50.00%, b 50.00%"]
    assert sources_drawn(changed, 0, 30) == loader_of(two).mixture.drawn(30)
    assert sources_drawn(changed, 30, 100) == {"a": 50, "b": 50}


def test_a_change_of_weights_is_remembered_by_the_states_that_follow(two):
    even = [(name, shards, 1) for name, shards, _ in two]
    changed = loader_of(even, said=[])
    changed.load_state_dict(after(loader_of(two), 10))
    state = after(changed, 4)
    again = loader_of(even)
    again.load_state_dict(state)
    assert [phase["first_sample"] for phase in state["phases"]] == [0, 30]
    assert [again.mixture.sample(number) for number in range(80)] == [
        changed.mixture.sample(number) for number in range(80)
    ]


def test_weights_planned_to_change_later_do_so_after_a_resume_too(two):
    plan = [(50, {"a": 1, "b": 9})]
    whole = loader_of(two, changes=plan)
    resumed = loader_of(two, changes=plan)
    resumed.load_state_dict(after(loader_of(two, changes=plan), 10))
    assert resumed.mixture.phases == whole.mixture.phases
    late = loader_of(two, changes=plan)
    late.load_state_dict(after(whole, 30))
    assert sources_drawn(late, 50, 100) == {"a": 10, "b": 90}


def test_what_was_planned_later_but_had_not_come_yet_can_be_given_up(two):
    plain = loader_of(two)
    plain.load_state_dict(after(loader_of(two, changes=[(50, {"b": 1})]), 10))
    assert plain.mixture.phases == loader_of(two).mixture.phases


def test_with_another_length_of_rows_the_run_goes_on_after_as_many_tokens_of_each_source(two):
    said = []
    longer = loader_of(two, context_tokens=16, said=said)
    longer.load_state_dict(after(loader_of(two), 16))
    assert longer.sample == 24 and longer.mixture.drawn(24) == {"a": 18, "b": 6}
    assert len(said) == 1 and "rows of 16 tokens" in said[0]
    again = loader_of(two, context_tokens=16)
    again.load_state_dict(after(longer, 2))
    assert again.sample == 30 and again.mixture.sample(31) == longer.mixture.sample(31)
    assert sources_drawn(longer, 24, 40) == {"a": 30, "b": 10}


def test_a_state_of_other_data_is_refused(two, write_shards):
    state = after(loader_of(two), 2)
    with pytest.raises(DataError, match="has seed 4, not 2") as caught:
        loader_of(two, seed=2).load_state_dict(state)
    assert "--seed 4" in str(caught.value.hint)
    with pytest.raises(DataError, match="has the sources a, b, the mixture has a"):
        loader_of(two[:1]).load_state_dict(state)
    with pytest.raises(DataError, match=r"tokens of source 'b' .* changed"):
        loader_of([two[0], ("b", write_shards("c", [9]), 0.25)]).load_state_dict(state)
    with pytest.raises(DataError, match="format_version 4"):
        loader_of(two).load_state_dict({**state, "format_version": 4})
