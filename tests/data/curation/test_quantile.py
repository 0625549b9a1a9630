"""The dropped documents are those that sorting finds, for any partition into tasks, and exactly as many."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.quantile import BINS, Cut, document_hashes

shares = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


def find(share, tasks):
    """The cut over tasks, each (steps, hashes), and how many rounds it took."""
    cut, rounds = Cut.begin(share), 0
    while not cut.is_found:
        cut = cut.narrowed(sum((cut.histogram(*task) for task in tasks), np.zeros(BINS, np.int64)))
        rounds += 1
    return cut, rounds


def split(steps, hashes, borders):
    places = sorted({0, len(steps), *(border % (len(steps) + 1) for border in borders)})
    return [(steps[a:b], hashes[a:b]) for a, b in itertools.pairwise(places)] or [(steps, hashes)]


def sorted_below(share, steps, hashes):
    """What the cut must find: the first documents in the order of (score, hash)."""
    below = np.zeros(len(steps), bool)
    below[np.lexsort((hashes, steps))[: int(Fraction(str(share)) * len(steps))]] = True
    return below


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 4) | st.integers(0, BINS - 1), max_size=60),
    shares,
    st.lists(st.integers(0, 99), max_size=4),
)
def test_the_cut_is_that_of_sorting_for_any_partition(scores, share, borders):
    steps = np.array(scores, np.int64)
    hashes = document_hashes([f"doc-{i}" for i in range(len(scores))])
    cut, _ = find(share, split(steps, hashes, borders))
    assert np.array_equal(cut.is_below(steps, hashes), sorted_below(share, steps, hashes))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), shares, st.randoms(use_true_random=False))
def test_hashes_that_share_their_high_bits_are_told_apart(scores, share, random):
    steps = np.array(scores, np.int64)
    low = random.sample(range(1 << 12), len(scores))
    hashes = np.array([(number << 48 if number % 3 else number) for number in low], np.uint64)
    hashes = hashes + np.arange(len(scores), dtype=np.uint64)
    if len(set(hashes.tolist())) == len(hashes):
        cut, _ = find(share, [(steps, hashes)])
        assert np.array_equal(cut.is_below(steps, hashes), sorted_below(share, steps, hashes))


def test_exactly_three_tenths_are_dropped_whatever_the_ties_and_the_order():
    generator = np.random.default_rng(3)
    steps = np.minimum(generator.normal(40_000, 12_000, 100_003).clip(0, BINS - 1).astype(np.int64), 45_000)
    hashes = document_hashes([f"shard-7/{i}" for i in range(len(steps))])
    cut, rounds = find(0.3, split(steps, hashes, [5, 70_000, 20_000]))
    assert cut.is_below(steps, hashes).sum() == 30_000 and rounds <= 3
    order = generator.permutation(len(steps))
    assert find(0.3, split(steps[order], hashes[order], [99]))[0] == cut


def test_equal_scores_are_cut_by_their_hashes():
    steps = np.full(1000, 7)
    hashes = document_hashes([str(i) for i in range(1000)])
    cut, rounds = find(0.3, [(steps, hashes)])
    assert cut.is_below(steps, hashes).sum() == 300 and rounds >= 2
    assert hashes[cut.is_below(steps, hashes)].max() < hashes[~cut.is_below(steps, hashes)].min()


def test_documents_with_the_same_score_and_hash_stay_together():
    steps, hashes = np.full(10, 7), np.full(10, 5, np.uint64)
    cut, _ = find(0.3, [(steps, hashes)])
    assert not cut.is_below(steps, hashes).any()


def test_nothing_and_everything_can_be_dropped():
    steps, hashes = np.array([BINS - 1, 0, 5]), document_hashes(["a", "b", "c"])
    assert not find(0, [(steps, hashes)])[0].is_below(steps, hashes).any()
    assert find(1, [(steps, hashes)])[0].is_below(steps, hashes).all()
    empty = np.zeros(0, np.int64), np.zeros(0, np.uint64)
    assert find(0.5, [empty])[0].is_below(*empty).shape == (0,)


def test_a_share_is_the_decimal_number_that_was_written():
    steps, hashes = np.arange(100), document_hashes([str(i) for i in range(100)])
    for hundredths in range(101):  # 0.29 * 100 is 28.999999999999996
        assert find(hundredths / 100, [(steps, hashes)])[0].is_below(steps, hashes).sum() == hundredths


def test_hashes_are_the_same_everywhere():
    assert document_hashes(["a", "ü\ud800"]).tolist() == [0x2F42665B399EF840, 0x83AEE91669FE72C2]
    assert document_hashes([]).shape == (0,)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ConfigError, match="must lie in"):
        Cut.begin(share)
