"""Files written by earlier versions stay readable: one frozen copy per format version."""

import json
from pathlib import Path

import pytest

from mamba_slm.data.loader import BatchLoader
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.mixture_file import MixtureChange, MixturePlan, MixtureSource, read_mixture_file
from mamba_slm.data.shards import TokenShards

FROZEN = Path(__file__).parent / "frozen"


def test_shards_of_format_version_1_can_be_read():
    shards = TokenShards.open(FROZEN / "shards-v1")
    documents = [shards.document(index).tolist() for index in range(shards.num_documents)]
    assert documents == [[0, 5, 6, 7, 0], [0, 8, 0], [0, 299, 298, 297, 296, 295, 0], [0, 9, 9, 0]]
    assert (shards.text_bytes, shards.vocab_size, shards.tokenizer_fingerprint) == (38, 300, "frozen")


def resumed(name: str) -> tuple[BatchLoader, list[str]]:
    said: list[str] = []
    shards = TokenShards.open(FROZEN / "shards-v1")
    mixture = Mixture([("frozen", shards, 1.0)], context_tokens=4, seed=1)
    loader = BatchLoader(mixture, batch_rows=2, say=said.append)
    loader.load_state_dict(json.loads((FROZEN / name).read_text()))
    return loader, said


@pytest.mark.parametrize(("version", "rows"), [(1, 6), (2, 6)])
def test_a_loader_state_of_a_version_before_packing_goes_on_after_as_many_tokens_and_says_so(version, rows):
    loader, said = resumed(f"loader-state-v{version}.json")
    assert loader.sample == rows
    assert len(said) == 1 and "read these documents end to end, now they are packed" in said[0]
    assert next(loader).inputs.shape == (2, 4)


def test_a_loader_state_of_format_version_3_continues_with_the_same_batch():
    loader, said = resumed("loader-state-v3.json")
    assert (loader.sample, said) == (6, [])
    assert next(loader).inputs.tolist() == [[0, 8, 299, 298], [0, 9, 9, 9]]


def test_a_mixture_file_of_format_version_1_can_be_read():
    plan = read_mixture_file(FROZEN / "mixture-v1.yaml")
    source = MixtureSource(path=str(FROZEN / "shards-v1"), weight=1.0)
    assert plan == MixturePlan(
        sources={"frozen": source}, temperature=1.5, changes=(MixtureChange(from_tokens=4000, weights={"frozen": 0.5}),)
    )
