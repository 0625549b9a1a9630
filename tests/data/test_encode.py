import functools
import re

import pytest

from mamba_slm.core.errors import DataError, DiskFullError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch, encode_documents
from mamba_slm.data.shards import TokenShards
from mamba_slm.text import bulk
from mamba_slm.text.bulk import DifferentIdsError, FastEncoder

TEXTS = ["def f(x):\n    return x\n", "你好", "<|endoftext|>", "a" * 1000]
DOCUMENTS = [Document(text=text, id=str(number)) for number, text in enumerate(TEXTS)]


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


def test_the_fast_way_and_the_exact_one_give_the_same_bytes(tokenizer, tmp_path):
    pytest.importorskip("fastokens")
    fast = encode_documents(lambda: iter(DOCUMENTS), tokenizer, tmp_path / "fast")
    exact = encode_documents(iter(DOCUMENTS), tokenizer, tmp_path / "exact")
    assert fast.encoder.startswith("fastokens") and exact.encoder.startswith("tokenizers")
    for file in (tmp_path / "fast").iterdir():
        assert file.read_bytes() == (tmp_path / "exact" / file.name).read_bytes()


def test_a_fast_encoder_that_turns_out_wrong_is_replaced_and_all_is_done_again(tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("fastokens")

    class Wrong(FastEncoder):
        def encode(self, texts):
            ids, lengths = super().encode(texts)
            if self.num_texts > 1:
                raise DifferentIdsError("fastokens gives other ids near 'x'")
            return ids + 1, lengths

    monkeypatch.setattr(bulk, "fast_encoder", functools.cache(Wrong))
    documents = [Document(text="a" * 1_200_000, id="long"), *DOCUMENTS]
    report = encode_documents(lambda: documents, tokenizer, tmp_path / "s")
    assert report.encoder == "tokenizers (fastokens gives other ids near 'x')"
    again = encode_documents(documents, tokenizer, tmp_path / "expected")
    assert again.encoder == report.encoder  # it is not asked a second time
    assert TokenShards.open(tmp_path / "s").fingerprint == TokenShards.open(tmp_path / "expected").fingerprint


def test_a_long_document_is_the_same_as_its_ids(tokenizer):
    documents = [Document(text="word, " * 60_000, id="long"), Document(text="", id="empty"), DOCUMENTS[0]]
    for document, tokens in zip(documents, encode_batch(tokenizer, documents), strict=True):
        assert tokens.tolist() == [tokenizer.bos_id, *tokenizer.encode(document.text), tokenizer.eos_id]


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
