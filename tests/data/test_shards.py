import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data.provenance import Origin, Source
from mamba_slm.data.shard_format import HEADER_BYTES
from mamba_slm.data.shards import ShardWriter, TokenShards, is_shard_folder


@given(
    documents=st.lists(st.lists(st.integers(0, 65_535), min_size=2, max_size=30), max_size=12),
    max_shard_tokens=st.sampled_from([1, 20, 1000]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_documents_come_back_in_order_however_they_are_sharded(tmp_path_factory, documents, max_shard_tokens):
    folder = tmp_path_factory.mktemp("shards") / "new"
    with ShardWriter(folder, tokenizer_fingerprint="f", vocab_size=65_536, max_shard_tokens=max_shard_tokens) as writer:
        for ids in documents:
            writer.append(ids, text_bytes=len(ids))
    shards = TokenShards.open(folder)
    assert [shards.document(i).tolist() for i in range(shards.num_documents)] == documents
    assert shards.document_lengths().tolist() == [len(ids) for ids in documents]
    assert shards.num_tokens == shards.text_bytes == sum(map(len, documents))
    assert (shards.tokenizer_fingerprint, shards.vocab_size) == ("f", 65_536)


@given(
    lengths=st.lists(st.integers(2, 30), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=4),
    max_shard_tokens=st.sampled_from([1, 7, 40, 1000]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_documents_written_in_batches_give_the_same_bytes_as_one_by_one(
    tmp_path_factory, lengths, cuts, max_shard_tokens
):
    folder = tmp_path_factory.mktemp("shards")
    tokens = np.arange(sum(lengths)) % 300
    ends = np.cumsum([0, *lengths])
    settings = {"tokenizer_fingerprint": "f", "vocab_size": 300, "max_shard_tokens": max_shard_tokens}
    with ShardWriter(folder / "one", **settings) as one, ShardWriter(folder / "many", **settings) as many:
        for start, end in itertools.pairwise(ends):
            one.append(tokens[start:end], text_bytes=1)
        for first, last in itertools.pairwise([0, *sorted(min(cut, len(lengths)) for cut in cuts), len(lengths)]):
            many.append_many(
                tokens[ends[first] : ends[last]], np.asarray(lengths[first:last], np.int64), text_bytes=last - first
            )
    for file in (folder / "one").iterdir():
        assert file.read_bytes() == (folder / "many" / file.name).read_bytes()


def test_the_manifest_remembers_where_documents_come_from(tmp_path):
    origin = Origin(input="web/", licence="ODC-BY", curation="c0ffee", sources=(Source(name="c4"),), num_documents=1)
    with ShardWriter(tmp_path / "new", tokenizer_fingerprint="f", vocab_size=300) as writer:
        writer.append([1, 2], text_bytes=1)
        writer.provenance = (origin,)
    assert TokenShards.open(tmp_path / "new").manifest.provenance == (origin,)


def test_a_token_file_of_other_shards_is_refused(write_shards):
    small, large = write_shards("a", [10], vocab_size=300), write_shards("b", [10], vocab_size=301)
    file = small.folder / "tokens-00000.bin"
    file.write_bytes((large.folder / file.name).read_bytes())
    with pytest.raises(DataError, match="belongs to other shards"):
        TokenShards.open(small.folder, verify=False)
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(DataError, match="is not a token file"):
        TokenShards.open(small.folder, verify=False)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_take_two_bytes_where_the_vocabulary_allows(write_shards, vocab_size, dtype):
    shards = write_shards("a", [3], vocab_size=vocab_size)
    assert shards.document(0).dtype == dtype
    assert (shards.folder / "tokens-00000.bin").stat().st_size == HEADER_BYTES + 3 * shards.document(0).itemsize


def test_documents_are_views_that_cannot_be_written_to(write_shards):
    document = write_shards("a", [3, 4]).document(1)
    assert document.base is not None and not document.flags.writeable


@pytest.mark.parametrize("index", [-1, 2])
def test_a_document_outside_the_range_is_an_index_error(write_shards, index):
    with pytest.raises(IndexError, match="of 2"):
        write_shards("a", [3, 4]).document(index)


def test_equal_tokens_have_equal_fingerprints(write_shards):
    first, same, other = write_shards("a", [3, 4]), write_shards("b", [3, 4]), write_shards("c", [4, 3])
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert "2 documents, 7 tokens, 21 B of text" in repr(first)


def test_a_truncated_file_is_found_even_without_checksums(write_shards):
    folder = write_shards("a", [100, 100]).folder
    file = folder / "tokens-00000.bin"
    file.write_bytes(file.read_bytes()[:-2])
    for verify in (True, False):
        with pytest.raises(DataError, match=r"tokens-00000\.bin is truncated: 862 bytes instead of 864"):
            TokenShards.open(folder, verify=verify)


def test_a_file_that_grew_is_found(write_shards):
    folder = write_shards("a", [10]).folder
    with (folder / "ends-00000.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match="has grown"):
        TokenShards.open(folder)


def test_one_flipped_bit_is_found_by_its_checksum(write_shards):
    folder = write_shards("a", [100]).folder
    file = folder / "tokens-00000.bin"
    content = bytearray(file.read_bytes())
    content[HEADER_BYTES + 57] ^= 4
    file.write_bytes(content)
    with pytest.raises(DataError, match="is damaged") as caught:
        TokenShards.open(folder)
    assert "data tokenize" in str(caught.value.hint)
    assert TokenShards.open(folder, verify=False).num_tokens == 100


def test_a_missing_file_is_named(write_shards):
    folder = write_shards("a", [10]).folder
    (folder / "ends-00000.bin").unlink()
    with pytest.raises(DataError, match=r"ends-00000\.bin is missing"):
        TokenShards.open(folder)


def test_a_newer_format_is_refused(write_shards):
    folder = write_shards("a", [10]).folder
    manifest = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps({**manifest, "format_version": 3}))
    with pytest.raises(DataError, match="format_version 3; this program reads up to 2"):
        TokenShards.open(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format_version": 1, "dtype": "<u2", "files": [{}]}', "\x00"])
def test_a_broken_manifest_is_a_data_error(write_shards, content):
    folder = write_shards("a", [10]).folder
    (folder / "shards.json").write_text(content)
    with pytest.raises(DataError, match=r"shards\.json is damaged"):
        TokenShards.open(folder)


def test_a_folder_without_shards_is_explained(tmp_path):
    assert not is_shard_folder(tmp_path)
    with pytest.raises(DataError, match="holds no token shards"):
        TokenShards.open(tmp_path)


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    with (
        pytest.raises(RuntimeError, match="stop"),
        ShardWriter(tmp_path / "new", tokenizer_fingerprint="f", vocab_size=300) as writer,
    ):
        writer.append([1, 2], text_bytes=1)
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(write_shards):
    shards = write_shards("a", [10])
    assert is_shard_folder(shards.folder)
    with pytest.raises(DataError, match="exists already"):
        write_shards("a", [10])
    assert np.array_equal(TokenShards.open(shards.folder).document(0), np.arange(10, 20))
