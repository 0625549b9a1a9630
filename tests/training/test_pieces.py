"""Processes that hold everything deal the writing among themselves: each tensor once, and about as many bytes each."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.training.pieces import dealt, own_pieces


@given(sizes=st.dictionaries(st.text(max_size=3), st.integers(0, 1000), max_size=30), processes=st.integers(1, 5))
def test_no_process_writes_much_more_than_another(sizes, processes):
    chosen = dealt(sizes, processes)
    assert chosen.keys() == sizes.keys()
    loads = [sum(size for name, size in sizes.items() if chosen[name] == rank) for rank in range(processes)]
    assert max(loads) - min(loads) <= max(sizes.values(), default=0)


def test_each_tensor_is_written_by_one_process():
    tensors = {f"t{number}": torch.full((number + 1, 2), float(number)) for number in range(9)}
    parts = [own_pieces(tensors, rank=rank, size=3) for rank in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(tensors)
    for part in parts:
        assert all(piece.tensor is not None and piece.whole == tensors[name].shape for name, piece in part.items())
