import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError, DiskFullError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import cut, encode_documents
from mamba_slm.data.shards import TokenShards
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, train_tokenizer

TEXTS = ["def f(x):\n    return x\n", "你好", "<|endoftext|>", "a" * 1000]
DOCUMENTS = [Document(text=text, id=str(number)) for number, text in enumerate(TEXTS)]
MERGING = {
    name: train_tokenizer(["a\nb \n\n a\r\nb(\n  (\nab" * 50, *TEXTS], vocab_size=275, pre_tokenizer=name)
    for name in PRE_TOKENIZERS
}


def test_each_document_is_stored_between_its_begin_and_end_token(tokenizer, tmp_path):
    encode_documents(iter(DOCUMENTS), tokenizer, tmp_path / "s")
    shards = TokenShards.open(tmp_path / "s")
    assert shards.tokenizer_fingerprint == tokenizer.fingerprint
    for index, text in enumerate(TEXTS):
        first, *ids, last = shards.document(index).tolist()
        assert (first, last) == (tokenizer.bos_id, tokenizer.eos_id)
        assert tokenizer.decode(ids) == text and not tokenizer.special_ids & set(ids)


def test_the_report_counts_what_was_written(tokenizer, tmp_path):
    seen = []
    empty = Document(text="", id="empty")
    report = encode_documents([*DOCUMENTS, empty], tokenizer, tmp_path / "s", on_progress=seen.append)
    shards = TokenShards.open(tmp_path / "s")
    assert (report.num_documents, report.num_empty) == (4, 1)
    assert report.num_tokens == shards.num_tokens
    assert report.text_bytes == shards.text_bytes == sum(seen) == sum(len(text.encode()) for text in TEXTS)
    assert report.bytes_per_token == report.text_bytes / report.num_tokens
    assert report.to_dict()["bytes_per_token"] == report.bytes_per_token
    assert re.search(r"4 documents, 1 empty left out, .* tokens \(0\.99 bytes per token\)", str(report))


def test_the_same_documents_give_the_same_bytes(tokenizer, tmp_path):
    for name in ("a", "b"):
        encode_documents(DOCUMENTS, tokenizer, tmp_path / name, max_shard_tokens=50)
    a, b = TokenShards.open(tmp_path / "a"), TokenShards.open(tmp_path / "b")
    assert a.fingerprint == b.fingerprint
    assert len(a.manifest.files) > 2


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(text=st.text(alphabet=st.sampled_from(list("ab \n\r\t(1é\u00a0"))))
def test_cutting_a_long_text_changes_no_token(name, text):
    pieces = cut(text, piece_characters=3)
    assert "".join(pieces) == text
    ids = [id for piece in MERGING[name].encode_batch(pieces) for id in piece]
    assert ids == MERGING[name].encode(text)


def test_a_long_text_is_cut_into_pieces_of_bounded_size():
    pieces = cut("line of text\n" * 1000, piece_characters=100)
    assert max(map(len, pieces)) < 120
    assert cut("x" * 1000, piece_characters=100) == ["x" * 1000]


@pytest.mark.parametrize("documents", [[], [Document(text="", id="e")]])
def test_no_text_leaves_no_folder(tokenizer, tmp_path, documents):
    with pytest.raises(DataError, match="no text to tokenize"):
        encode_documents(documents, tokenizer, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_input_leaves_no_folder(tokenizer, tmp_path):
    def broken():
        yield DOCUMENTS[0]
        raise DataError("bad line")

    with pytest.raises(DataError, match="bad line"):
        encode_documents(broken(), tokenizer, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_explained_and_leaves_no_folder(tokenizer, tmp_path):
    def full():
        yield DOCUMENTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskFullError, match="no space left while writing"):
        encode_documents(full(), tokenizer, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
