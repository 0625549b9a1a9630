"""Many documents in bounded memory, and kills at any point."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.curation.duplicates.corpus import true_pairs
from mamba_slm.data.curation.duplicates.parts import Part
from mamba_slm.data.curation.duplicates.synthetic import SyntheticPart, synthetic_parts
from mamba_slm.data.document import Document

PROCESS = Path(__file__).with_name("find_process.py")


def run(folder, documents, per_part, fsyncs=0):
    """The exit code and what was printed; nothing by who was killed."""
    command = [sys.executable, str(PROCESS), *map(str, (folder, documents, per_part, fsyncs))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, json.loads(done.stdout or "{}")


def documents_of(part: Part) -> list[Document]:
    documents = []
    for batch in part.batches(10_000):
        texts = [batch.texts.bytes_of(i).decode() for i in range(len(batch))]
        ids = [batch.ids.bytes_of(i).decode() for i in range(len(batch))]
        documents += [Document(id=id, text=text) for id, text in zip(ids, texts, strict=True)]
    return documents


def test_the_synthetic_corpus_is_what_it_says():
    whole = SyntheticPart(first=0, count=600)
    documents = documents_of(whole)
    assert documents == [each for part in synthetic_parts(600, 250) for each in documents_of(part)]
    numbers = np.arange(600)
    originals, similarities = whole.originals(numbers), whole.similarities(numbers)
    known = {
        (int(original), int(number)): similarity
        for number, original, similarity in zip(numbers, originals, similarities, strict=True)
        if original != number and similarity >= 0.8
    }
    truth = true_pairs(documents)
    assert len(known) > 50
    assert known.items() <= {pair: float(similarity) for pair, similarity in truth.items()}.items()
    siblings = {(a, b) for a, b in truth if originals[a] == originals[b]}
    assert siblings == truth.keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_few_hundred_thousand_documents_stay_within_their_memory_and_lose_their_duplicates(tmp_path):
    count = 400_000
    _, found = run(tmp_path, count, 100_000)
    assert found["peak_bytes"] < 1 << 30
    gone = np.zeros(count, bool)
    gone[found["removed"]] = True
    numbers = np.arange(count)
    part = SyntheticPart(first=0, count=count)
    originals, similar = part.originals(numbers), part.similarities(numbers) >= 0.8
    pairs = similar & (originals != numbers)
    assert pairs.sum() > 40_000
    assert (gone[numbers[pairs]] | gone[originals[pairs]]).mean() >= 0.995
    family = np.bincount(originals, minlength=count)
    assert (family[originals[gone]] > 1).all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_at_any_point_change_nothing(tmp_path):
    _, expected = run(tmp_path / "undisturbed", 20_000, 5000)
    source, kills = random.Random(11), 0
    while True:
        code, found = run(tmp_path / "killed", 20_000, 5000, source.randint(1, 25))
        if code == 0:
            break
        kills += 1
    assert kills >= 5
    assert found["fingerprint"] == expected["fingerprint"]
    assert found["removed"] == expected["removed"]
    for file in (tmp_path / "undisturbed").rglob("*"):
        if file.is_file():
            other = tmp_path / "killed" / file.relative_to(tmp_path / "undisturbed")
            assert file.read_bytes() == other.read_bytes()
