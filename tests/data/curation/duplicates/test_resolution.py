"""Greedy by rank over any graph, in any number of blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.data.curation.duplicates import resolution
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.definition import kept_and_removed
from mamba_slm.data.curation.duplicates.resolution import EDGE, resolve


def edges_of(pairs, ranks):
    rows = np.zeros(len(pairs), EDGE)
    for row, (a, b) in zip(rows, pairs, strict=True):
        better, worse = sorted((a, b), key=ranks.__getitem__)
        row["better"], row["worse"] = better, worse
        row["better_rank"], row["worse_rank"] = ranks[better], ranks[worse]
        row["shared"], row["either"] = better, worse
    return rows


def resolved(rows, tmp_path, memory_bytes, files=2):
    folders = []
    for i in range(files):
        folder = tmp_path / f"{i}"
        folder.mkdir()
        rows[i::files].tofile(folder / "edges.bin")
        folders.append(folder)
    config = DuplicatesConfig()
    object.__setattr__(config, "memory_bytes", memory_bytes)
    resolve(folders, tmp_path / "out", config)
    return [np.load(path) for path in sorted((tmp_path / "out").glob("*.npy"))]


def check(pairs, ranks, tmp_path, memory_bytes):
    blocks = resolved(edges_of(pairs, ranks), tmp_path, memory_bytes)
    linked = {frozenset(pair) for pair in pairs}
    expected = kept_and_removed(len(ranks), lambda a, b: frozenset((a, b)) in linked, ranks.__getitem__)
    found = {row["removed"]: row["kept"] for block in blocks for row in block}
    assert found == expected
    for block in blocks:
        assert (np.diff(block["removed"].astype(np.int64)) > 0).all()
        assert (block["shared"] == block["kept"]).all()
        assert (block["either"] == block["removed"]).all()
    return blocks


numbers = st.integers(0, 30)


@settings(deadline=None, max_examples=50)
@given(st.sets(st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1]), max_size=80), st.randoms())
def test_it_is_greedy_by_rank_whatever_the_blocks(tmp_path_factory, pairs, source):
    ranks = [(source.choice([5, 7, 1 << 63]), source.getrandbits(64)) for _ in range(31)]
    for memory_bytes in (1 << 30, 1 << 10):
        check(sorted(pairs), ranks, tmp_path_factory.mktemp("graph"), memory_bytes)


@pytest.mark.parametrize("memory_bytes", [1 << 30, 1 << 14])
@pytest.mark.parametrize("rounds", [1, 64])
def test_a_long_chain_in_the_order_of_rank(tmp_path, monkeypatch, memory_bytes, rounds):
    monkeypatch.setattr(resolution, "QUICK_ROUNDS", rounds)
    ranks = [(number, 0) for number in range(1001)]
    blocks = check([(i, i + 1) for i in range(1000)], ranks, tmp_path, memory_bytes)
    assert (len(blocks) > 5) == (memory_bytes == 1 << 14)
    assert sum(map(len, blocks)) == 500


def test_a_star_keeps_its_best_or_all_others(tmp_path):
    for centre in (0, 1):
        folder = tmp_path / f"{centre}"
        folder.mkdir()
        ranks = [(5 * centre, 9)] + [(centre, number) for number in range(1, 50)]
        check([(0, i) for i in range(1, 50)], ranks, folder, 1 << 12)
