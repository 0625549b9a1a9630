"""Documents that are too long, too uniform or too strange: the same tokens, and memory that stays bounded."""

import json
import resource

import pytest

from mamba_slm.data.document import Document
from mamba_slm.data.encode import DocumentEncoder
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.shards import TokenShards
from mamba_slm.data.tokenization.tokenize import tokenize
from mamba_slm.text.bulk import bulk_encoder
from mamba_slm.text.train_tokenizer import train_tokenizer

PROSE = "It was a bright cold day in April, and the clocks weren't striking thirteen. "


@pytest.fixture(scope="module")
def merging():
    return train_tokenizer([PROSE * 20, "你好世界" * 20, "a" * 64, " " * 64], vocab_size=330)


@pytest.mark.parametrize("unit", ["x", " ", "\n", "=", "9", "你好世界", "\0", PROSE.replace(" ", "")])
def test_a_megabyte_without_a_line_end_has_the_ids_of_the_tokenizer(merging, unit):
    text = (unit * (1 << 20))[: 1 << 20]
    document = Document(text=text, id="long")
    tokens, lengths = DocumentEncoder(merging, bulk_encoder(merging)).encode([document])
    assert lengths.tolist() == [len(tokens)]
    assert merging.decode(tokens[1:-1].tolist()) == text
    start = merging.encode(text[:4096])
    assert tokens[1 : len(start) - 40].tolist() == start[: len(start) - 41]


def test_strange_documents_are_stored_and_broken_ones_counted(merging, tmp_path):
    texts = ["\0", "a\0b", " lone \u2028 ends \u0085", "▁", "\ufeff", "<|endoftext|>", "e\u0301" * 500, "x"]
    lines = [json.dumps({"text": text}) for text in texts]
    lines[4:4] = ['{"text": "\\ud800"}', '{"text": 5}', "{", '{"text": ""}', '{"text": "  "}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    done = tokenize(
        [str(tmp_path / "x.jsonl")],
        merging,
        tmp_path / "out",
        reading=ReadOptions(on_error="skip"),
        validation_share=0,
    )
    shards = TokenShards.open(tmp_path / "out" / "train")
    stored = [merging.decode(shards.document(i)[1:-1].tolist()) for i in range(shards.num_documents)]
    assert stored == texts
    assert (done.read.num_documents, done.read.num_problems, done.read.num_empty) == (8, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [PROSE, "你好世界", "123,456\t", "a"])
def test_a_document_of_fifty_megabytes_on_one_line(merging, unit):
    pytest.importorskip("fastokens")
    text = unit * (50_000_000 // len(unit.encode()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tokens, _ = DocumentEncoder(merging, bulk_encoder(merging)).encode([Document(text=text, id="long")])
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 3 << 30
    lengths = merging.token_byte_lengths()
    assert sum(lengths[id] for id in tokens.tolist()) == len(text.encode())
