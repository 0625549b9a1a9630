"""How many questions of a benchmark stand in a training set, against the definition."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data.curation.contamination.config import ContaminationConfig
from mamba_slm.data.curation.contamination.index import BenchmarkIndex
from mamba_slm.data.curation.contamination.overlap import MOSTLY, measure_overlap, shard_documents
from mamba_slm.data.curation.contamination.runs import runs_of
from mamba_slm.data.curation.phrases.definition import words_of
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_documents
from mamba_slm.text.train_tokenizer import train_tokenizer

CONFIG = ContaminationConfig(ngram_words=3, min_words=3, min_distinct_share=0.0, max_questions=1000)
WORDS = ["roof", "duck", "egg", "moon", "river"]


def index_of(folder, benchmarks):
    """An index of benchmarks: name -> questions."""
    for name, questions in benchmarks.items():
        (folder / name).mkdir(parents=True)
        lines = [json.dumps({"question": question}) for question in questions]
        (folder / name / "test.jsonl").write_text("\n".join(lines) + "\n")
    return BenchmarkIndex.build([folder], CONFIG)


def documents_of(texts):
    return [Document(id=f"d{number}", text=text) for number, text in enumerate(texts)]


sentence = st.lists(st.sampled_from(WORDS), min_size=3, max_size=9).map(" ".join)


@settings(max_examples=30)
@given(questions=st.lists(sentence, min_size=1, max_size=6, unique=True), texts=st.lists(sentence, max_size=5))
def test_shares_are_those_of_the_definition(questions, texts, tmp_path_factory):
    index = index_of(tmp_path_factory.mktemp("questions"), {"one": questions})
    overlap = measure_overlap(documents_of(texts), index)
    in_texts = [runs_of(words_of(text), CONFIG) for text in texts]
    expected = {}
    for number, question in enumerate(questions, start=1):
        runs = runs_of(words_of(question), CONFIG)
        holders = [place for place, found in enumerate(in_texts) if found & runs]
        if holders:
            share = len(runs & set().union(*in_texts)) / len(runs)
            expected[f"one/test.jsonl:{number}"] = (pytest.approx(share), f"d{holders[0]}")
    (one,) = overlap.benchmarks
    assert {seen.file: (seen.share, seen.document) for seen in one.examples} == expected
    assert (one.questions, one.looked_for, one.seen) == (len(questions), len(questions), len(expected))
    every = set().union(*(runs_of(words_of(question), CONFIG) for question in questions))
    assert one.documents == sum(bool(found & every) for found in in_texts)
    assert one.mostly_seen == sum(seen.share >= MOSTLY for seen in one.examples)
    assert (overlap.documents, overlap.words) == (len(texts), sum(len(words_of(text)) for text in texts))


def test_benchmarks_are_counted_apart_and_the_most_seen_comes_first(tmp_path):
    index = index_of(
        tmp_path, {"ducks": ["the duck lays one egg", "no such bird here"], "moon": ["the moon is far away", "xy z"]}
    )
    texts = ["What? The moon is far away, they say.", "the duck lays", "nothing of it"]
    overlap = measure_overlap(documents_of(texts), index)
    assert [(one.benchmark, one.looked_for, one.seen, one.mostly_seen) for one in overlap.benchmarks] == [
        *(("moon", 1, 1, 1), ("ducks", 2, 1, 0)),
    ]
    assert overlap.benchmarks[1].examples[0].share == pytest.approx(1 / 3)
    assert overlap.benchmarks[0].share == 1.0
    fields = overlap.to_dict(examples=0)
    assert json.loads(json.dumps(fields)) == fields | {"benchmarks": json.loads(json.dumps(fields["benchmarks"]))}
    assert (fields["format_version"], fields["benchmarks"][0]["share"], fields["benchmarks"][0]["examples"]) == (
        *(1, 1.0, ()),
    )


def test_token_shards_are_read_as_the_text_they_were_made_of(tmp_path):
    random.seed(1)
    texts = [" ".join(random.choices(WORDS, k=20)) for _ in range(5)]
    tokenizer = train_tokenizer(texts, vocab_size=280)
    encode_documents(documents_of(texts), tokenizer, tmp_path / "tokens")
    found = list(shard_documents(tmp_path / "tokens", tokenizer))
    assert sorted(document.text for document in found) == sorted(texts)
    assert len({document.id for document in found}) == 5
    with pytest.raises(DataError, match="another tokenizer"):
        list(shard_documents(tmp_path / "tokens", train_tokenizer(texts, vocab_size=270)))
