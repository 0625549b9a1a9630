import json

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_documents
from mamba_slm.data.inspect import inspect_documents, inspect_shards, token_view
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.tokenization.tokenize import tokenize
from mamba_slm.text.train_tokenizer import train_tokenizer

TEXTS = ["a" * length for length in range(1, 102)] + ["né", "né", "né"]
DOCUMENTS = [Document(text=text, id=str(number)) for number, text in enumerate(TEXTS)]


def test_lengths_and_duplicates_are_counted_in_one_pass(tokenizer):
    found = inspect_documents(iter(DOCUMENTS), tokenizer=tokenizer)
    assert (found.num_documents, found.num_duplicates) == (104, 2)
    assert found.text_bytes == found.num_tokens == sum(range(1, 102)) + 9
    assert found.duplicates == (("102", "101"), ("103", "101"))
    assert found.document_bytes == found.document_tokens
    assert found.document_bytes["0"] == 1 and found.document_bytes["100"] == 101
    assert found.document_bytes["50"] == 49


def test_without_a_tokenizer_tokens_are_unknown():
    found = inspect_documents(DOCUMENTS)
    assert found.num_tokens is None and "tokens" not in str(found)
    assert inspect_documents([]).document_bytes == {} and "unknown" in str(inspect_documents([]))


def test_bad_lines_are_listed_with_their_place(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a"}\noops\n{"text": " "}\n')
    report = ReadReport()
    found = inspect_documents(read_documents(file, ReadOptions(on_error="skip"), report=report), report=report)
    assert (found.num_documents, found.num_empty, found.num_problems) == (1, 1, 1)
    assert f"{file}:2 is not valid JSON" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["problems"] == list(found.problems)


def test_shards_show_the_same_statistics_as_their_documents(tokenizer, tmp_path):
    encode_documents(DOCUMENTS, tokenizer, tmp_path / "s")
    of_documents, of_shards = inspect_documents(DOCUMENTS, tokenizer=tokenizer), inspect_shards(tmp_path / "s")
    assert of_shards.document_bytes == {}
    assert inspect_shards(tmp_path / "s", tokenizer=tokenizer) == of_documents
    assert of_shards.document_tokens == of_documents.document_tokens
    with pytest.raises(DataError, match="made with another tokenizer"):
        inspect_shards(tmp_path / "s", tokenizer=train_tokenizer(["abab"], vocab_size=261))


def test_the_token_view_shows_parts_of_characters_as_bytes(tokenizer):
    lines = [line.split(maxsplit=1) for line in token_view(tokenizer, "h\né").splitlines()]
    assert [shown for _, shown in lines] == ["'h'", "'\\n'", "b'\\xc3'", "b'\\xa9'"]
    assert [int(id) for id, _ in lines] == tokenizer.encode("h\né")


def test_shards_say_where_their_documents_come_from(tokenizer, tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one.txt").write_text("one book")
    sources = [{"name": "gutenberg", "licence": "public domain"}, {"name": "mine"}]
    (tmp_path / "books" / "curation.json").write_text(json.dumps({"fingerprint": "c0ffee", "sources": sources}))
    reading = ReadOptions(pattern="*.txt")
    tokenize([str(tmp_path / "books")], tokenizer, tmp_path / "out", reading=reading, validation_share=0)
    shown = str(inspect_shards(tmp_path / "out" / "train"))
    assert f"{tmp_path / 'books'} (gutenberg: public domain, mine: licence unknown), licence unknown" in shown
    assert shown.endswith(", curation c0ffee: 1 documents")
