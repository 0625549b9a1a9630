import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data.curation.blocks import BLOCK_BYTES, BlockWriter, read_blocks, selected

ROWS = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=8), st.binary(max_size=20)), max_size=30)


def written(path, rows, block_bytes=BLOCK_BYTES):
    with path.open("wb") as file:
        writer = BlockWriter(file=file)
        for number, row in enumerate(rows):
            writer.append(*row)
            if number % block_bytes == block_bytes - 1:
                writer.flush()
        writer.flush()
    return path


def rows_in(path):
    return [
        tuple(column.bytes_of(number) for column in (block.texts, block.ids, block.records))
        for block in read_blocks(path)
        for number in range(len(block))
    ]


@given(rows=ROWS, every=st.integers(1, 10))
def test_documents_come_back_in_order_whatever_the_blocks(rows, every, tmp_path_factory):
    assert rows_in(written(tmp_path_factory.mktemp("blocks") / "b", rows, every)) == rows


def test_blocks_are_bounded_but_no_document_is_cut(tmp_path):
    rows = [(bytes([n]) * (BLOCK_BYTES // 3), b"id", b"{}") for n in range(8)] + [(b"x" * 3 * BLOCK_BYTES, b"", b"")]
    path = written(tmp_path / "b", rows)
    assert [len(block) for block in read_blocks(path)] == [3, 3, 3]
    assert rows_in(path) == rows


def test_some_documents_can_be_chosen(tmp_path):
    (block,) = read_blocks(written(tmp_path / "b", [(b"one", b"", b""), (b"", b"", b""), (b"three", b"", b"")]))
    kept = selected(block.texts, np.array([True, False, True]))
    assert [kept.bytes_of(n) for n in range(len(kept))] == [b"one", b"three"]


@pytest.mark.parametrize("change", [lambda data: data[:-3], lambda data: data[:9] + b"\xff" * 8 + data[17:]])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, change):
    path = written(tmp_path / "blocks.bin", [(b"some text that is long enough", b"id", b"{}")] * 50)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=r"blocks.bin is damaged"):
        rows_in(path)
