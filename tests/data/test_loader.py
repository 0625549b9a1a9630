import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.loader import BatchLoader, validation_batches
from mamba_slm.data.mixture import Mixture

LENGTHS = {"a": [2, 30, 5, 5, 17, 100], "b": [12] * 7}


@pytest.fixture
def sources(write_shards):
    return [
        ("a", write_shards("a", LENGTHS["a"]), 0.7),
        ("b", write_shards("b", LENGTHS["b"], first_token=1000), 0.3),
    ]


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("inputs", "targets", "document_ids")
    )


def loader_of(sources, *, context_tokens=8, seed=4, say=None, **sizes):
    mixture = Mixture(sources, context_tokens=context_tokens, seed=seed)
    return BatchLoader(mixture, **{"batch_rows": 1, **sizes}, **({"say": say} if say else {}))


@given(before=st.integers(0, 30), context_tokens=st.integers(1, 40), batch_rows=st.integers(1, 4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_state_after_batch_n_continues_with_batch_n_plus_one(sources, before, context_tokens, batch_rows):
    sizes = {"context_tokens": context_tokens, "batch_rows": batch_rows}
    loader = loader_of(sources, **sizes)
    for _ in range(before):
        next(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    restored = loader_of(sources, **sizes, say=pytest.fail)
    next(restored)
    restored.load_state_dict(state)
    for _ in range(5):
        assert same(next(loader), next(restored))
    assert loader.state_dict() == restored.state_dict()


def test_rows_of_one_document_are_spread_over_the_batches(write_shards):
    shards = write_shards("long", [1000] * 8)
    loader = loader_of([("long", shards, None)], context_tokens=50, batch_rows=8)
    origins = [{(row[0] - 10) // 1000 for row in next(loader).inputs.tolist()} for _ in range(10)]
    assert sum(map(len, origins)) / len(origins) > 3


def test_another_process_continues_exactly(sources):
    loader = loader_of(sources, context_tokens=16, batch_rows=3)
    for _ in range(11):
        next(loader)
    program = f"""
import json, sys
from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.shards import TokenShards
folders = {[(name, str(shards.folder), weight) for name, shards, weight in sources]!r}
sources = [(name, TokenShards.open(folder), weight) for name, folder, weight in folders]
loader = BatchLoader(Mixture(sources, context_tokens=16, seed=4), batch_rows=3)
loader.load_state_dict(json.load(sys.stdin))
print(json.dumps([next(loader).inputs.tolist() for _ in range(4)]))
assert "torch" not in sys.modules
"""
    state = json.dumps(loader.state_dict())
    done = subprocess.run([sys.executable, "-c", program], input=state, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [next(loader).inputs.tolist() for _ in range(4)]


def test_a_batch_has_the_shapes_and_types_that_a_model_takes(sources):
    batch = next(loader_of(sources, context_tokens=16, batch_rows=3))
    assert batch.inputs.shape == batch.targets.shape == batch.document_ids.shape == (3, 16)
    assert (batch.inputs.dtype, batch.targets.dtype, batch.document_ids.dtype) == ("int64", "int64", "int32")
    assert 0 < batch.num_targets == int((batch.targets != -100).sum()) <= 48


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_share_one_order_without_overlap(sources, world_size):
    whole = loader_of(sources, batch_rows=2 * world_size)
    ranks = [loader_of(sources, batch_rows=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(5):
        parts = [next(loader).inputs for loader in ranks]
        assert np.array_equal(next(whole).inputs, np.concatenate(parts))
    assert all(loader.state_dict() == whole.state_dict() for loader in ranks)


def test_a_run_resumes_with_another_number_of_processes_and_rows(sources):
    two = loader_of(sources, batch_rows=2, rank=1, world_size=2)
    for _ in range(6):
        next(two)
    one = loader_of(sources, batch_rows=4, say=pytest.fail)
    one.load_state_dict(two.state_dict())
    assert np.array_equal(next(one).inputs[2:], next(two).inputs)


def test_the_rows_go_on_into_the_next_epoch(sources):
    loader = loader_of(sources, context_tokens=50, batch_rows=4)
    for _ in range(10):
        assert next(loader).inputs.shape == (4, 50)
    assert min(loader.mixture.epochs(loader.sample).values()) > 3


def test_a_corpus_shorter_than_one_row_says_how_many_tokens_are_needed(sources):
    with pytest.raises(DataError, match="too small: 243 tokens, but one row of 243 needs 244") as caught:
        loader_of(sources, context_tokens=243)
    assert "--context-tokens 242" in str(caught.value.hint)
    loader_of(sources, context_tokens=242)


@pytest.mark.parametrize(
    "wrong", [{"batch_rows": 0}, {"rank": 2, "world_size": 2}, {"rank": -1}, {"context_tokens": 0}]
)
def test_impossible_sizes_are_refused(sources, wrong):
    with pytest.raises(ConfigError, match="must"):
        loader_of(sources, **wrong)


@pytest.mark.parametrize("context_tokens", [1, 7, 64, 1000])
def test_validation_scores_every_token_once_and_is_the_same_each_time(sources, context_tokens):
    shards = sources[0][1]
    batches = list(validation_batches(shards, context_tokens=context_tokens, batch_rows=3))
    again = list(validation_batches(shards, context_tokens=context_tokens, batch_rows=3))
    assert all(same(first, second) for first, second in zip(batches, again, strict=True))
    targets = sorted(token for batch in batches for token in batch.targets.ravel().tolist() if token != -100)
    begins = {10, 12, 42, 47, 52, 69}
    assert targets == [token for token in range(10, 10 + sum(LENGTHS["a"])) if token not in begins]


def test_a_part_of_the_validation_data_is_its_beginning(sources):
    shards = sources[1][1]
    whole = list(validation_batches(shards, context_tokens=8, batch_rows=1))
    part = list(validation_batches(shards, context_tokens=8, batch_rows=1, max_tokens=17))
    assert len(part) == 3 and all(same(first, second) for first, second in zip(part, whole, strict=False))


def test_impossible_validation_is_refused(sources, write_shards):
    shards = sources[0][1]
    with pytest.raises(ConfigError, match="batch_rows"):
        next(validation_batches(shards, context_tokens=8, batch_rows=0))
    with pytest.raises(ConfigError, match="max_tokens"):
        next(validation_batches(shards, context_tokens=8, batch_rows=1, max_tokens=0))
    with pytest.raises(DataError, match="no documents"):
        next(validation_batches(write_shards("none", []), context_tokens=8, batch_rows=1))
