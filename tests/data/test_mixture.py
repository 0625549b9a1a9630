import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.packing import NO_TARGET

SETTINGS = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def three(write_shards):
    return [
        ("web", write_shards("web", [20] * 9, first_token=5000), 0.2),
        ("books", write_shards("books", [50] * 20), 0.5),
        ("code", write_shards("code", [7, 90, 30, 11], first_token=2000), 0.3),
    ]


def mixture_of(sources, **settings):
    return Mixture(sources, **{"context_tokens": 16, "seed": 1, **settings})


def first_samples(mixture, count, *, start=0):
    return [mixture.sample(start + number) for number in range(count)]


@SETTINGS
@given(weights=st.lists(st.integers(1, 50), min_size=3, max_size=3))
def test_after_n_samples_every_source_is_within_one_of_weight_times_n(three, weights):
    mixture = mixture_of([(name, shards, weight) for (name, shards, _), weight in zip(three, weights, strict=True)])
    asked = {name: Fraction(weight, sum(weights)) for (name, *_), weight in zip(three, weights, strict=True)}
    counts = dict.fromkeys(asked, 0)
    for number in range(200):
        counts[mixture.sample(number).source] += 1
        assert mixture.drawn(number + 1) == counts
        assert all(abs(counts[name] - share * (number + 1)) < 1 for name, share in asked.items())


def test_an_epoch_holds_every_row_once_and_the_next_is_ordered_anew(three):
    mixture = mixture_of([(*three[1][:2], None)])
    rows = mixture.num_rows
    first, second = ([s.row for s in first_samples(mixture, rows, start=k * rows)] for k in (0, 1))
    assert sorted(first) == sorted(second) == list(range(rows))
    assert first != second != sorted(second)
    assert mixture.epochs(2 * rows) == {"books": 2.0}
    assert [mixture.sample(number).epoch for number in (0, rows - 1, rows)] == [0, 0, 1]


def test_without_weights_every_source_is_read_equally_often(three):
    mixture = mixture_of([(name, shards, None) for name, shards, _ in three])
    assert set(mixture.epochs(3 * mixture.num_rows).values()) == {3.0}


def test_a_temperature_gives_small_sources_more(three):
    sources = [(name, shards, None) for name, shards, _ in three]
    plain, even = mixture_of(sources).shares(), mixture_of(sources, temperature=1000).shares()
    between = mixture_of(sources, temperature=2).shares()
    assert plain["code"] < between["code"] < even["code"] == pytest.approx(1 / 3, rel=0.01)


def test_a_sample_is_a_function_of_sources_weights_and_seed_alone(three):
    expected = first_samples(mixture_of(three), 60)
    reversed_order = mixture_of(three[::-1])
    assert [reversed_order.sample(number) for number in reversed(range(60))] == expected[::-1]
    assert first_samples(mixture_of(three, seed=2), 60) != expected


def test_another_process_gives_the_same_samples(three):
    folders = [(name, str(shards.folder), weight) for name, shards, weight in three]
    program = f"""
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.shards import TokenShards
mixture = Mixture([(n, TokenShards.open(f), w) for n, f, w in {folders!r}], context_tokens=16, seed=1)
print([mixture.sample(10**12 + number) for number in range(40)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(first_samples(mixture_of(three), 40, start=10**12))


def test_a_sample_far_away_costs_no_more_than_the_first(three):
    """Cause, not time: nothing is walked through. Far samples take as many calls as near ones."""
    mixture = mixture_of(three)

    def calls(number):
        counted = 0

        def count(frame, event, argument):
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            mixture.sample(number)
        finally:
            sys.setprofile(None)
        return counted

    for start in (0, 10**12):
        mixture.sample(start)  # the orders of these epochs are kept
    near, far = (np.mean([calls(start + number) for number in range(30)]) for start in (0, 10**12))
    assert far < 1.5 * near + 30


def test_rows_hold_the_tokens_of_their_pieces_with_the_next_ones_as_targets(three):
    mixture = mixture_of(three)
    shards = {name: opened for name, opened, _ in three}
    for number in [*range(40), 10**12]:
        sample, row = mixture.sample(number), mixture.row(number)
        filled = 0
        for place, piece in enumerate(sample.pieces):
            tokens = shards[sample.source].document(piece.document)[piece.start : piece.start + piece.length + 1]
            here = slice(filled, filled + piece.length)
            assert row.inputs[here].tolist() == tokens[:-1].tolist()
            assert row.targets[here].tolist() == tokens[1:].tolist()
            assert set(row.document_ids[here].tolist()) == {place}
            filled += piece.length
        assert (row.targets[filled:] == NO_TARGET).all() and (row.document_ids[filled:] == len(sample.pieces)).all()


@SETTINGS
@given(first=st.integers(1, 200), more=st.integers(1, 300))
def test_changed_weights_hold_from_their_sample_on_and_change_nothing_before(three, first, more):
    new = {"web": 1, "books": 0, "code": 3}
    changing, plain = mixture_of(three, changes=[(first, new)]), mixture_of(three)
    assert first_samples(changing, first) == first_samples(plain, first)
    before, after = plain.drawn(first), changing.drawn(first + more)
    for name, weight in new.items():
        assert abs(after[name] - before[name] - weight / 4 * more) < 1
    sources = [changing.sample(first + number).source for number in range(more)]
    assert {name: sources.count(name) for name in new} == {name: after[name] - before[name] for name in new}


def test_within_a_source_a_change_of_weights_leaves_out_no_row_and_doubles_none(three):
    mixture = mixture_of(three, changes=[(37, {"web": 1, "books": 1, "code": 5}), (61, {"code": 1})])
    rows = [sample.row for sample in first_samples(mixture, 80) if sample.source == "code"]
    plan = mixture.sources["code"].plan
    assert sorted(rows[: plan.num_rows]) == list(range(plan.num_rows))


def test_it_prints_a_table_of_shares_rows_and_epochs(three):
    mixture = mixture_of(three, changes=[(1000, {"web": 1, "code": 1})])
    lines = mixture.table(500).splitlines()
    assert lines[0].split() == ["source", "share", "documents", "tokens", "rows", "empty", "epochs"]
    assert lines[1].split()[:4] == ["books", "50.00%", "20", "1.00k"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4] == "from row 1,000 (16.0k tokens) on: books 0.00%, code 50.00%, web 50.00%"
    assert str(mixture) == mixture.table() and "epochs" not in str(mixture)


def test_more_than_four_epochs_are_warned_of_before_they_happen(three):
    mixture = mixture_of(three)
    rows = mixture.sources["code"].plan.num_rows
    assert mixture.warnings(int(4 * rows / 0.3) - 3) == []
    (warning,) = mixture.warnings(int(5 * rows / 0.3))
    assert warning.startswith("code is read 5.0 times")


def test_a_share_that_cannot_be_as_small_as_asked_is_warned_of(three):
    weights = {"web": 1e-9, "books": 1, "code": 1}
    (warning,) = mixture_of([(name, shards, weights[name]) for name, shards, _ in three]).warnings(0)
    assert warning.startswith("web has a share of 3.81e-06, not 5e-10")


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused(three, weight):
    name, shards, _ = three[0]
    with pytest.raises(ConfigError, match="weight of source 'web' must be positive"):
        mixture_of([(name, shards, weight)])


def test_sources_that_do_not_fit_together_are_refused(three, write_shards):
    with pytest.raises(ConfigError, match="at least one source"):
        mixture_of([])
    with pytest.raises(ConfigError, match="same name"):
        mixture_of([three[0], three[0]])
    with pytest.raises(DataError, match="different tokenizers"):
        mixture_of([three[0], ("other", write_shards("o", [5], tokenizer_fingerprint="u"), 1)])
    with pytest.raises(DataError, match="holds no documents"):
        mixture_of([("none", write_shards("n", []), 1)])
    with pytest.raises(ConfigError, match="web has none"):
        mixture_of([(*three[0][:2], None), three[1]])


def test_impossible_weights_are_refused(three):
    with pytest.raises(ConfigError, match="temperature"):
        mixture_of(three, temperature=2)
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        mixture_of([(name, shards, None) for name, shards, _ in three], temperature=0)
    with pytest.raises(UnknownNameError, match="unknown source 'cod'; did you mean 'code'"):
        mixture_of(three, changes=[(5, {"cod": 1})])
    with pytest.raises(ConfigError, match="row 5, which is not after row 9"):
        mixture_of(three, changes=[(9, {"code": 1}), (5, {"web": 1})])
    with pytest.raises(ConfigError, match="at least one positive weight"):
        mixture_of(three, changes=[(9, {"code": 0})])
