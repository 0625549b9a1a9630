import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.mixture import Mixture


@pytest.fixture
def three(write_shards):
    return [
        ("books", write_shards("books", [50] * 20), 0.5),
        ("code", write_shards("code", [7, 90, 30, 11], first_token=2000), 0.3),
        ("web", write_shards("web", [20] * 9, first_token=5000), 0.2),
    ]


def drawn(mixture, count):
    return [(d.source, d.index) for d in (mixture.next_document() for _ in range(count))]


def test_every_share_is_met_within_one_document_at_every_moment(three):
    mixture = Mixture(three, seed=1)
    for _ in range(400):
        mixture.next_document()
        for source in mixture.sources:
            assert abs(source.tokens_drawn - source.weight * mixture.tokens_drawn) <= 90
    assert mixture.num_tokens == 1000 + 138 + 180


def test_an_epoch_holds_every_document_once_and_the_next_is_ordered_anew(write_shards):
    mixture = Mixture([("a", write_shards("a", [5] * 30), None)], seed=3)
    first, second = drawn(mixture, 30), drawn(mixture, 30)
    assert sorted(first) == sorted(second) == [("a", i) for i in range(30)]
    assert first != second != sorted(second)
    assert mixture.epochs() == {"a": 2.0}


def test_without_weights_every_source_is_read_equally_often(three):
    mixture = Mixture([(name, shards, None) for name, shards, _ in three])
    drawn(mixture, 300)
    epochs = mixture.epochs().values()
    assert max(epochs) - min(epochs) < 0.7


def test_the_stream_is_a_function_of_sources_weights_and_seed(three):
    assert drawn(Mixture(three, seed=1), 50) == drawn(Mixture(three, seed=1), 50)
    assert drawn(Mixture(three, seed=1), 50) != drawn(Mixture(three, seed=2), 50)


@given(before=st.integers(0, 120), after=st.integers(1, 60))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_restored_mixture_continues_with_the_next_document(three, before, after):
    mixture = Mixture(three, seed=5)
    drawn(mixture, before)
    state = json.loads(json.dumps(mixture.state_dict()))
    expected = drawn(mixture, after)
    restored = Mixture(three, seed=5)
    drawn(restored, 3)
    restored.load_state_dict(state)
    assert drawn(restored, after) == expected
    assert restored.state_dict() == mixture.state_dict()


def test_changed_weights_hold_from_the_resume_on_without_catching_up(three):
    mixture = Mixture(three, seed=1)
    drawn(mixture, 200)
    changed = Mixture([(name, shards, 1.0) for name, shards, _ in three], seed=1)
    changed.load_state_dict(mixture.state_dict())
    before = {source.name: source.tokens_drawn for source in changed.sources}
    drawn(changed, 60)
    since = {source.name: source.tokens_drawn - before[source.name] for source in changed.sources}
    assert max(since.values()) - min(since.values()) <= 90
    again = Mixture([(name, shards, 1.0) for name, shards, _ in three], seed=1)
    again.load_state_dict(changed.state_dict())
    assert drawn(again, 40) == drawn(changed, 40)


def test_it_prints_a_table_of_shares_and_epochs(three):
    mixture = Mixture(three, seed=1)
    drawn(mixture, 100)
    lines = str(mixture).splitlines()
    assert lines[0].split() == ["source", "share", "documents", "tokens", "drawn", "epochs"]
    assert lines[1].split()[:4] == ["books", "50.0%", "20", "1.00k"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused(three, weight):
    name, shards, _ = three[0]
    with pytest.raises(ConfigError, match="weight of source 'books' must be positive"):
        Mixture([(name, shards, weight)])


def test_sources_that_do_not_fit_together_are_refused(three, write_shards):
    with pytest.raises(ConfigError, match="at least one source"):
        Mixture([])
    with pytest.raises(ConfigError, match="same name"):
        Mixture([three[0], three[0]])
    with pytest.raises(DataError, match="different tokenizers"):
        Mixture([three[0], ("other", write_shards("o", [5], tokenizer_fingerprint="u"), 1)])
    with pytest.raises(DataError, match="holds no documents"):
        Mixture([("none", write_shards("n", []), 1)])


def test_a_state_of_other_data_is_refused(three, write_shards):
    state = Mixture(three, seed=1).state_dict()
    with pytest.raises(DataError, match="has seed 1, not 2"):
        Mixture(three, seed=2).load_state_dict(state)
    with pytest.raises(DataError, match="has the sources books, code, web"):
        Mixture(three[:2], seed=1).load_state_dict(state)
    with pytest.raises(DataError, match=r"tokens of source 'web' .* changed"):
        Mixture([*three[:2], ("web", write_shards("w", [9]), 0.2)], seed=1).load_state_dict(state)
    with pytest.raises(DataError, match="format_version 9"):
        Mixture(three, seed=1).load_state_dict({**state, "format_version": 9})


def test_one_document_can_be_fetched_by_source_and_number(three):
    assert Mixture(three).document("code", 1).tolist() == list(range(2007, 2097))
