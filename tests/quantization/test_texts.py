"""Promises of the measured tokens: never those that were learned from, the same whatever their order, all read."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_documents
from mamba_slm.quantization.texts import held_out_shards, rows_of, set_apart, token_documents, written_by
from small_models import small_tokenizer, varied_model

TEXTS = [f"def f{number}(a):\n    return a + {number}\n" * (1 + number % 5) for number in range(40)]


def lists(documents):
    return [document.tolist() for document in documents]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.fixture
def shards(tmp_path):
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(TEXTS)]
    encode_documents(documents, small_tokenizer(), tmp_path / "run" / "data" / "held-out-1")
    return tmp_path / "run" / "data" / "held-out-1"


def test_documents_of_a_text_and_of_shards_are_the_same(file, shards):
    found = token_documents(file, small_tokenizer())
    assert len(found) == len(TEXTS)
    assert lists(found) == lists(token_documents(shards, small_tokenizer()))


def test_shards_of_another_tokenizer_are_refused(shards):
    other = small_tokenizer().__class__(small_tokenizer().backend)
    other.__dict__["fingerprint"] = "another"
    with pytest.raises(DataError, match="another tokenizer"):
        token_documents(shards, other)


def test_what_is_measured_on_is_never_learned_from(file):
    documents = token_documents(file, small_tokenizer())
    learn, measure = set_apart(documents)
    assert len(learn) + len(measure) == len(documents) and len(learn) > len(measure) > 0
    assert not {tuple(each) for each in lists(learn)} & {tuple(each) for each in lists(measure)}
    assert lists(set_apart(documents[::-1])[1]) == lists(measure[::-1])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_documents_are_set_apart_too(count):
    learn, measure = set_apart([torch.arange(100 * number, 100 * number + 50) for number in range(count)])
    together = torch.cat([*learn, *measure]).tolist()
    assert learn and measure and len(together) == len(set(together)) == 50 * count


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(2, 100), st.integers(2, 16))
def test_rows_fit_and_hold_what_was_asked_for(sizes, num_tokens, row_tokens):
    documents = [torch.arange(size) + 100 * number for number, size in enumerate(sizes)]
    rows = rows_of(documents, num_tokens=num_tokens, row_tokens=row_tokens)
    assert all(2 <= len(row) <= row_tokens for row in rows)
    assert sum(map(len, rows)) <= num_tokens
    assert lists(rows) == lists(rows_of(documents[::-1], num_tokens=num_tokens, row_tokens=row_tokens))
    whole = sum(len(piece) for document in documents for piece in document.split(row_tokens) if len(piece) > 1)
    assert sum(map(len, rows)) >= min(whole, num_tokens) - 1


def test_the_documents_that_a_run_held_out_are_found(shards):
    run = shards.parents[1]
    for folder in (run, run / "model", run / "checkpoints" / "step-00000001"):
        assert held_out_shards(folder, small_tokenizer()) == shards
    assert held_out_shards(run.parent / "elsewhere" / "model", small_tokenizer()) is None


def test_a_model_writes_texts_that_depend_on_the_seed_alone():
    model = varied_model()
    one, same, other = (written_by(model, small_tokenizer(), num_tokens=100, seed=seed) for seed in (1, 1, 2))
    assert lists(one.rows) == lists(same.rows) != lists(other.rows)
    assert all(len(row) <= model.config.max_context_tokens for row in one.rows)
    assert one.num_tokens > 0 and "by itself" in one.what
