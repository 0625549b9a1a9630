"""A state on the disk is what was written for its name and its namespace, or it is refused."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import CheckpointError
from mamba_slm.serving.cache.disk.entry import packed, unpacked

TENSORS = {"0.window": torch.arange(6.0).view(2, 3), "0.keys": torch.ones(4, 1, 2, dtype=torch.bfloat16)}
KEY, NAME = b"k" * 32, "4-" + "a" * 40
WHOLE = packed(TENSORS, key=KEY, name=NAME)


def test_it_comes_back_as_it_was():
    found = unpacked(WHOLE, key=KEY, name=NAME)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(place, change):
    data = bytearray(WHOLE)
    data[place] ^= change
    with pytest.raises(CheckpointError):
        unpacked(bytes(data), key=KEY, name=NAME)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, len(WHOLE) - 1))
def test_nothing_that_was_cut_short_or_made_longer_is_read(length):
    for data in (WHOLE[:length], WHOLE + WHOLE[: length + 1]):
        with pytest.raises(CheckpointError):
            unpacked(data, key=KEY, name=NAME)


@pytest.mark.parametrize("letter", ["é", "\ud800"])
def test_a_code_of_other_letters_is_refused(letter):
    code = json.dumps(letter + "0" * 63).encode()
    head = b'{"__metadata__": {"format_version": "1", "code": ' + code + b"}}"
    with pytest.raises(CheckpointError):
        unpacked(len(head).to_bytes(8, "little") + head, key=KEY, name=NAME)


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}", b"\x00" * 64])
def test_other_files_are_refused(data):
    with pytest.raises(CheckpointError):
        unpacked(data, key=KEY, name=NAME)


def test_an_entry_of_another_namespace_or_under_another_name_is_refused():
    for key, name in ((b"l" * 32, NAME), (KEY, "4-" + "b" * 40)):
        with pytest.raises(CheckpointError, match="not those that were written"):
            unpacked(WHOLE, key=key, name=name)


def test_the_format_that_is_stored_today_is_read_for_ever():
    """The bytes of a small entry, written by version 1."""
    data = bytes.fromhex(FROZEN)
    assert unpacked(data, key=KEY, name=NAME)["0.ssm"].tolist() == [1.0, 2.0]


FROZEN = (
    "b0000000000000007b225f5f6d657461646174615f5f223a7b22666f726d61745f76657273696f6e223a2231222c22636f64"
    "65223a2261353065366435366664666163383637613331623164336537313161613137326466386466303232363035653066"
    "356230653234656666356534303339623531227d2c22302e73736d223a7b226474797065223a22463332222c227368617065"
    "223a5b325d2c22646174615f6f666673657473223a5b302c385d7d7d2020202020200000803f00000040"
)
