"""Promises of the table in a report card: everybody is measured on the same bytes."""

import csv
import functools
import json
import shutil

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch, encode_documents
from mamba_slm.data.shards import TokenShards
from mamba_slm.evaluation.bits_per_byte import measure_bits_per_byte
from mamba_slm.evaluation.held_out import choose_documents, evaluate_held_out
from mamba_slm.text.train_tokenizer import train_tokenizer
from small_models import small_tokenizer, varied_model


def document_of(module):
    with open(module.__file__, encoding="utf-8") as file:
        return Document(text=file.read()[:6000], id=module.__name__)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("shards") / "train"
    encode_documents([document_of(functools), document_of(shutil)], tokenizer, folder)
    return TokenShards.open(folder)


def test_the_rows_are_the_model_and_four_baselines_on_the_same_bytes(tokenizer, shards):
    documents = [document_of(csv), document_of(json), Document(text="naïve 語\n", id="short")]
    model = varied_model()
    rows = evaluate_held_out(model, tokenizer, documents, [shards], context_tokens=40)
    assert [row["name"] for row in rows] == [
        "model",
        "gzip -9 (each file alone)",
        "xz -9e (each file alone)",
        "xz -9e (all files together)",
        "Witten-Bell trigram (same tokens, same training text)",
    ]
    num_bytes = sum(document.num_bytes for document in documents)
    assert {row["bytes"] for row in rows} == {num_bytes}
    measured = measure_bits_per_byte(model, encode_batch(tokenizer, documents), num_bytes=num_bytes, context_tokens=40)
    assert rows[0]["bits_per_byte"] == measured.bits_per_byte
    assert f"{shards.num_tokens - shards.num_documents:,} training tokens" in rows[4]["how"]
    assert json.loads(json.dumps(rows)) == rows
    assert all(set(row) == {"name", "bits_per_byte", "bytes", "how"} for row in rows)


def test_shards_of_another_tokenizer_and_a_foreign_model_are_refused(tokenizer, shards):
    other = train_tokenizer([document_of(csv).text], vocab_size=300)
    documents = [document_of(csv)]
    with pytest.raises(ConfigError, match="another tokenizer"):
        evaluate_held_out(varied_model(), other, documents, [shards])
    with pytest.raises(ConfigError, match="the model's vocabulary only 100"):
        evaluate_held_out(varied_model(vocab_size=100), tokenizer, documents, [shards])


def test_no_held_out_documents_are_an_error(tokenizer, shards):
    with pytest.raises(DataError, match="no held-out text"):
        evaluate_held_out(varied_model(), tokenizer, [], [shards])


def some(*sizes):
    return [Document(text="x" * size, id=f"document {number}") for number, size in enumerate(sizes)]


def test_chosen_documents_are_whole_fit_the_budget_and_do_not_depend_on_the_order():
    documents = some(*range(10, 60))
    chosen = choose_documents(documents, max_bytes=500)
    assert 440 < sum(document.num_bytes for document in chosen) <= 500
    assert choose_documents(documents[::-1], max_bytes=500) == chosen
    assert [document.id for document in chosen] == sorted(document.id for document in chosen)
    assert len(choose_documents(documents, max_bytes=10**6)) == len(documents)


def test_one_document_is_chosen_even_when_none_fits():
    assert len(choose_documents(some(100, 200, 300), max_bytes=50)) == 1
    assert choose_documents([], max_bytes=50) == []
