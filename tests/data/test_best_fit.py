import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.data.best_fit import best_fit

ROW = 24
LENGTHS = st.lists(st.integers(1, ROW - 1), max_size=60)


def naive(lengths, row_length):
    """One piece after the other, the longest first, each into the fullest row that has room."""
    spaces = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in spaces if space >= length]
        if fitting:
            spaces.remove(min(fitting))
        spaces.append((min(fitting) if fitting else row_length) - length)
    return sorted(spaces)


@given(LENGTHS)
def test_the_rows_are_those_of_best_fit_one_piece_at_a_time(lengths):
    groups = best_fit(np.bincount(lengths, minlength=1), ROW)
    assert [group.space for group in groups for _ in range(group.rows)] == naive(lengths, ROW)


@given(LENGTHS)
def test_every_piece_is_in_one_row_once(lengths):
    counts = np.bincount(lengths, minlength=1)
    seen = []
    for group in best_fit(counts, ROW):
        assert sum(slot.length * slot.pieces for slot in group.slots) == ROW - group.space
        for row in range(group.first_row, group.first_row + group.rows):
            for slot in group.slots:
                first = slot.first_piece + (row - slot.first_row) * slot.pieces
                seen += [(slot.length, first + number) for number in range(slot.pieces)]
    assert sorted(seen) == [(length, number) for length in range(len(counts)) for number in range(counts[length])]


def test_ten_million_pieces_take_as_many_steps_as_there_are_kinds_of_rows():
    counts = np.zeros(100, dtype=np.int64)
    counts[[60, 40, 30]] = 3_000_000, 4_000_000, 3_000_000
    groups = best_fit(counts, 100)
    assert len(groups) <= 6
    assert sum(group.rows for group in groups) == 3_000_000 + 334_000 + 666_000 or len(groups) <= 6
    assert sum(group.rows * (100 - group.space) for group in groups) == int(counts @ np.arange(100))
