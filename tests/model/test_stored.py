"""Tensors in pieces are the tensors that were cut, whichever part is asked for; what is missing is said."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mamba_slm.core.errors import CheckpointError, SetupError
from mamba_slm.model.stored import INDEX_FILE, Piece, index_of, open_tensors, write_pieces, write_whole


def cut(tensors, places):
    """For each of `places + 1` processes the rows that it has of each tensor; a scalar belongs to the last."""
    cuts = []
    for number in range(places + 1):
        own = {}
        for name, tensor in tensors.items():
            whole = tuple(tensor.shape)
            if not whole:
                if number == places:
                    own[name] = Piece(tensor, (), ())
                continue
            begin, end = (whole[0] * place // (places + 1) for place in (number, number + 1))
            if end > begin:
                own[name] = Piece(tensor[begin:end], (begin, *(0,) * (len(whole) - 1)), whole)
        cuts.append(own)
    return cuts


def written(folder, tensors, places=2):
    parts = [write_pieces(folder / f"model-{rank}.safetensors", own) for rank, own in enumerate(cut(tensors, places))]
    index = {"format_version": 1, "model": index_of(parts)}
    (folder / INDEX_FILE).write_text(json.dumps(index))
    return open_tensors(folder, "model", "model.safetensors")


def some_tensors():
    torch.manual_seed(0)
    return {
        "a": torch.randn(7, 3),
        "b": torch.randn(5).bfloat16(),
        "c": torch.tensor(3.0),
        "d": torch.arange(24, dtype=torch.uint8).view(4, 3, 2),
        "e": torch.empty(0, 4),
    }


def same(left, right):
    return left.dtype == right.dtype and torch.equal(left, right)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 4), places=st.integers(0, 4), data=st.data())
def test_any_box_of_a_cut_tensor_is_the_box_of_the_whole(tmp_path_factory, rows, columns, places, data):
    tensor = torch.arange(rows * columns).view(rows, columns)
    stored = written(tmp_path_factory.mktemp("cut"), {"a": tensor}, places)
    begin = [data.draw(st.integers(0, size)) for size in tensor.shape]
    shape = [data.draw(st.integers(0, size - start)) for size, start in zip(tensor.shape, begin, strict=True)]
    box = tuple(slice(start, start + length) for start, length in zip(begin, shape, strict=True))
    assert same(stored.part("a", tuple(begin), tuple(shape)), tensor[box])
    assert same(stored["a"], tensor)


def test_tensors_of_any_type_and_shape_come_back(tmp_path):
    tensors = some_tensors()
    del tensors["e"]  # nobody holds any of it
    stored = written(tmp_path, tensors)
    assert sorted(stored) == sorted(tensors) and stored.shapes == {name: tuple(t.shape) for name, t in tensors.items()}
    assert all(same(stored[name], tensor) for name, tensor in tensors.items())


def test_pieces_joined_to_one_file_are_the_file_that_was_never_cut(tmp_path):
    tensors = some_tensors()
    save_file(tensors, tmp_path / "plain.safetensors", metadata={"format": "pt"})
    stored = open_tensors(tmp_path, "model", "plain.safetensors")
    write_whole(stored, tmp_path / "joined.safetensors")
    found = load_file(tmp_path / "joined.safetensors")
    assert found.keys() == tensors.keys()
    assert all(same(found[name], tensor) for name, tensor in tensors.items())
    del tensors["e"]
    write_whole(written(tmp_path, tensors), tmp_path / "from-pieces.safetensors")
    assert all(same(value, tensors[name]) for name, value in load_file(tmp_path / "from-pieces.safetensors").items())


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_torch_distributed_checkpoint_reads_the_pieces(tmp_path):
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    tensors = {name: tensor for name, tensor in some_tensors().items() if name in "abd"}
    written(tmp_path, tensors)
    into = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    load(into, storage_reader=HuggingFaceStorageReader(str(tmp_path)), no_dist=True)
    assert all(same(into[name], tensor) for name, tensor in tensors.items())


def test_a_missing_file_is_named(tmp_path):
    stored = written(tmp_path, some_tensors())
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-1\.safetensors cannot be read"):
        stored["a"]


def test_missing_pieces_are_counted(tmp_path):
    written(tmp_path, {"a": torch.zeros(6, 2)})
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    del index["model"]["a"]["pieces"][1]
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks pieces of a: 8 of 12 numbers are there"):
        open_tensors(tmp_path, "model", "model.safetensors")["a"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 1}', '{"format_version": 1, "model": {"a": 1}}']
)
def test_a_damaged_index_is_said(tmp_path, content):
    (tmp_path / INDEX_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=INDEX_FILE):
        open_tensors(tmp_path, "model", "model.safetensors")


def test_an_index_of_a_newer_package_is_refused(tmp_path):
    (tmp_path / INDEX_FILE).write_text('{"format_version": 99, "model": {}}')
    with pytest.raises(SetupError, match="99"):
        open_tensors(tmp_path, "model", "model.safetensors")
