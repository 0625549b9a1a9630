"""Sorted runs give every record of a range of keys once, in bounded pieces."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.kernels import kernels
from mamba_slm.data.curation.duplicates.matching import neighbours_in, records_of
from mamba_slm.data.curation.duplicates.portable import PortableKernels
from mamba_slm.data.curation.duplicates.runs import (
    HELD_BYTES,
    LAST_KEY,
    RunWriter,
    groups_of,
    key_ranges,
    pieces,
    read_records,
    rows_of_part,
    runs_of,
)


def written(folder, columns, *, records_at_once=10):
    """Runs of parts from (key, index, next) rows."""
    runs = []
    for part, rows in enumerate(columns):
        (folder / f"{part}").mkdir()
        writer = RunWriter(folder / f"{part}", "bands", PortableKernels(), memory_bytes=records_at_once * HELD_BYTES)
        for row in rows:
            writer.append(*(np.array([value], dtype) for value, dtype in zip(row, ("u8", "u4", "u4"), strict=True)))
        writer.flush()
        runs += runs_of(folder / f"{part}", part, "bands")
    return runs


keys = st.sampled_from([0, 1, 5, 1 << 63, LAST_KEY]) | st.integers(0, LAST_KEY)
rows = st.lists(st.tuples(keys, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=20)


@settings(deadline=None, max_examples=20)
@given(st.lists(rows, max_size=3), st.integers(1, 7))
def test_ranges_and_pieces_give_every_record_once(tmp_path_factory, columns, count):
    runs = written(tmp_path_factory.mktemp("runs"), columns)
    found = []
    for first, last in key_ranges(count):
        for start, end in pieces(runs, first, last, 5 * HELD_BYTES):
            records = read_records(runs, start, end, kernels())
            assert (np.sort(records.keys) == records.keys).all()
            assert len(records.keys) <= 5 or start == end
            found += zip(records.keys.tolist(), records.locations.tolist(), records.nexts.tolist(), strict=True)
    expected = [(key, part << 32 | i, n) for part, rows in enumerate(columns) for key, i, n in rows]
    assert sorted(found) == sorted(expected)


def test_ranges_cover_all_keys_without_overlap():
    ranges = key_ranges(7)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == LAST_KEY
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ranges))


def test_a_single_key_beyond_the_memory_is_cut_by_the_next_band(tmp_path):
    runs = written(tmp_path, [[(7, i, i << 20) for i in range(1000)]], records_at_once=300)
    config = DuplicatesConfig()
    object.__setattr__(config, "memory_bytes", 100 * HELD_BYTES)

    def is_copy(part, indices):
        return indices % 2 == 1

    found = list(records_of(runs, (0, LAST_KEY), is_copy, config, kernels()))
    assert sorted(np.concatenate([records.locations for records in found]).tolist()) == list(range(0, 1000, 2))
    assert len([records for records in found if len(records.keys)]) > 1


def test_groups_are_runs_of_two_or_more():
    starts, sizes = groups_of(np.array([1, 2, 2, 3, 5, 5, 5]))
    assert (starts.tolist(), sizes.tolist()) == ([1, 4], [2, 3])
    assert not len(groups_of(np.zeros(0))[0])


@pytest.mark.parametrize(("size", "expected"), [(1001, 499), (10_000, 50), (10**6, 32)])
def test_large_groups_cost_as_much_as_one_at_the_limit_until_they_need_few_neighbours(size, expected):
    assert neighbours_in(size, DuplicatesConfig()) == expected


def test_locations_of_a_part_are_a_slice():
    locations = np.array([5, 1 << 32, (1 << 32) + 7, 3 << 32], np.uint64)
    assert rows_of_part(locations, 1) == slice(1, 3)
    assert rows_of_part(locations, 2) == slice(3, 3)
