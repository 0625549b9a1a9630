"""Files written by earlier versions stay readable: one frozen copy per format version."""

import json
from pathlib import Path

from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.shards import TokenShards

FROZEN = Path(__file__).parent / "frozen"


def test_shards_of_format_version_1_can_be_read():
    shards = TokenShards.open(FROZEN / "shards-v1")
    documents = [shards.document(index).tolist() for index in range(shards.num_documents)]
    assert documents == [[0, 5, 6, 7, 0], [0, 8, 0], [0, 299, 298, 297, 296, 295, 0], [0, 9, 9, 0]]
    assert (shards.text_bytes, shards.vocab_size, shards.tokenizer_fingerprint) == (38, 300, "frozen")


def resumed(name: str) -> BatchLoader:
    shards = TokenShards.open(FROZEN / "shards-v1")
    loader = BatchLoader(Mixture([("frozen", shards, 1.0)], seed=1), context_tokens=4, batch_rows=2)
    loader.load_state_dict(json.loads((FROZEN / name).read_text()))
    return loader


def test_a_loader_state_of_format_version_1_goes_on_with_the_rows_that_follow():
    """Its rows came in the order of the stream; now the same rows come in the order of a block."""
    loader = resumed("loader-state-v1.json")
    rows = [row for _ in range(2) for row in next(loader).inputs.tolist()]
    assert sorted(rows) == [[0, 8, 0, 0], [9, 0, 0, 299], [295, 0, 0, 9], [299, 298, 297, 296]]


def test_a_loader_state_of_format_version_2_continues_with_the_same_batch():
    assert next(resumed("loader-state-v2.json")).inputs.tolist() == [[9, 9, 0, 0], [299, 298, 297, 296]]


def test_shards_of_format_version_2_can_be_read():
    shards = TokenShards.open(FROZEN / "shards-v2")
    documents = [shards.document(index).tolist() for index in range(shards.num_documents)]
    assert documents == [[0, 5, 6, 7, 0], [0, 8, 0], [0, 69_999, 298, 297, 296, 295, 0], [0, 9, 9, 0]]
    assert (len(shards.tokens), shards.text_bytes, shards.vocab_size) == (3, 38, 70_000)
    (origin,) = shards.manifest.provenance
    assert (origin.input, origin.licence, origin.curation, origin.num_tokens) == ("books/", "CC0-1.0", "c0ffee", 19)
    assert [(source.name, source.licence) for source in origin.sources] == [("one", "CC0-1.0"), ("two", None)]
