import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.data.permutation import Permutation


@given(size=st.integers(1, 600), seed=st.integers(0, 2**63), label=st.text(max_size=5))
def test_every_number_comes_exactly_once(size, seed, label):
    order = Permutation(size=size, seed=seed, label=label)
    assert sorted(order[i] for i in range(size)) == list(range(size))


def test_seed_and_label_give_other_orders():
    def first(**given):
        order = Permutation(size=1000, **given)
        return [order[i] for i in range(20)]

    orders = [first(seed=1), first(seed=2), first(seed=1, label="a/1"), first(seed=1, label="a/2")]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))


def test_the_order_is_the_same_on_every_machine():
    order = Permutation(size=10, seed=7, label="books/0")
    assert [order[i] for i in range(10)] == [8, 1, 2, 3, 5, 0, 6, 9, 4, 7]


def test_positions_are_spread_evenly():
    order = Permutation(size=100, seed=0)
    firsts = [Permutation(size=100, seed=seed)[0] for seed in range(2000)]
    quarters = [sum(25 * q <= value < 25 * (q + 1) for value in firsts) for q in range(4)]
    assert all(abs(count - 500) < 80 for count in quarters)
    rising = sum(order[i] < order[i + 1] for i in range(99))
    assert 35 < rising < 65


@pytest.mark.parametrize("size", [10**9, 10**15])
def test_huge_ranges_need_no_table(size):
    order = Permutation(size=size, seed=3)
    assert len({order[i] for i in range(1000)}) == 1000
