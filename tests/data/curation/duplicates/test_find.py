"""Every duplicate is found, nothing else goes, and nothing depends on who did the work."""

import json
import random
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data.curation.duplicates.corpus import THRESHOLD, found_in, make_corpus, true_pairs
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.curation.duplicates import signing
from mamba_slm.data.curation.duplicates.config import MIB, DuplicatesConfig
from mamba_slm.data.curation.duplicates.definition import jaccard, kept_and_removed, shingles_of, words_of
from mamba_slm.data.curation.duplicates.find import find_duplicates
from mamba_slm.data.curation.duplicates.parts import FilePart, MemoryPart
from mamba_slm.data.document import Document

FIXTURES = Path(__file__).parents[5] / "shared" / "data" / "curation" / "dedup-fixtures"


@pytest.fixture(scope="module")
def documents():
    return make_corpus(400)


@pytest.fixture(scope="module")
def truth(documents):
    return true_pairs(documents)


def rows_of(found):
    return sorted(found.removals())


def test_every_true_pair_loses_a_side_and_nothing_goes_without_a_kept_duplicate(documents, truth, tmp_path):
    found = found_in(documents, tmp_path)
    number_of = {document.id: number for number, document in enumerate(documents)}
    removed = {number_of[removal.id]: number_of[removal.kept_id] for removal in found.removals()}
    assert len(truth) > 300
    lost = [pair for pair in truth if not removed.keys() & set(pair)]
    assert len(lost) <= 0.005 * len(truth)
    for removal in found.removals():
        assert number_of[removal.kept_id] not in removed
        first, second = documents[number_of[removal.id]].text, documents[number_of[removal.kept_id]].text
        if removal.rule == "duplicates.exact":
            assert first == second
        elif removal.rule == "duplicates.same_words":
            assert first != second
            assert words_of(first) == words_of(second)
        else:
            assert removal.similarity == jaccard(shingles_of(first), shingles_of(second)) >= THRESHOLD
    assert len(found.stays(0)) == len(documents)
    assert set(np.flatnonzero(~found.stays(0)).tolist()) == removed.keys()
    assert sum(found.counts().values()) == len(removed)
    assert all(found.counts()[rule] for rule in ("duplicates.exact", "duplicates.same_words", "duplicates.near"))


def test_what_goes_is_what_the_definition_says(documents, truth, tmp_path):
    """As all true pairs are found in this corpus, greedy by rank over the truth removes exactly the same."""
    found = found_in(documents, tmp_path)
    rows = np.fromfile(found.signed.folders[0] / "documents.bin", signing.DOCUMENT)
    rank = [tuple(pair) for pair in rows["rank"].tolist()]

    wordless = {number for number, document in enumerate(documents) if not words_of(document.text)}

    def is_duplicate(a, b):
        if a in wordless and b in wordless:
            return documents[a].text == documents[b].text
        return (min(a, b), max(a, b)) in truth

    expected = kept_and_removed(len(documents), is_duplicate, rank.__getitem__)
    assert set(np.flatnonzero(~found.stays(0)).tolist()) == expected.keys()
    near = [removal for removal in found.removals() if removal.rule == "duplicates.near"]
    kept = {documents[a].id: documents[b].id for a, b in expected.items()}
    assert {removal.id: removal.kept_id for removal in near}.items() <= kept.items()


def test_the_better_one_stays(tmp_path):
    text = "one two three four five six seven eight nine ten eleven twelve " * 3
    for qualities in ([0.1, 0.9, -1.0], [-3.0, -2.0, -2.5], [0.0, 1e-30, -0.0]):
        documents = [
            Document(id=f"{number}", text=text + extra, metadata={"quality": quality})
            for number, (quality, extra) in enumerate(zip(qualities, ["", "", "!"], strict=True))
        ]
        found = found_in(documents, tmp_path / str(qualities))
        assert found.stays(0).tolist() == [False, True, False]


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_order_nor_parts_matter(documents, tmp_path, seed):
    expected = found_in(documents, tmp_path / "a")
    shuffled = list(documents)
    random.Random(seed).shuffle(shuffled)
    found = found_in(shuffled, tmp_path / "b", parts=1 + 3 * seed)
    assert rows_of(found) == rows_of(expected)
    assert found.fingerprint() == expected.fingerprint()


def test_neither_memory_nor_kernel_nor_chunks_matter(documents, tmp_path, monkeypatch):
    documents = documents[:250]
    expected = found_in(documents, tmp_path / "a").fingerprint()
    assert found_in(documents, tmp_path / "b", kernel="numpy").fingerprint() == expected
    monkeypatch.setattr(signing, "CHUNK_DOCUMENTS", 50)
    monkeypatch.setattr(signing, "BATCH_BYTES", 1000)
    assert found_in(documents, tmp_path / "c", parts=3).fingerprint() == expected
    little = DuplicatesConfig(memory_bytes=16 * MIB)
    object.__setattr__(little, "memory_bytes", 1 << 14)  # less than is allowed: many runs, ranges and pieces
    found = found_in(documents, tmp_path / "d", parts=3, config=little)
    assert found.fingerprint() == expected
    assert len(list((tmp_path / "d" / "matched").iterdir())) > 5


def test_workers_do_not_matter(documents, tmp_path):
    documents = documents[:250]
    expected = found_in(documents, tmp_path / "a", parts=4)
    found = found_in(documents, tmp_path / "b", parts=4, workers=2)
    for file in sorted((tmp_path / "a").rglob("*")):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes(), file
    assert found.fingerprint() == expected.fingerprint()


def test_what_is_done_is_not_done_again(documents, tmp_path):
    said = []
    expected = found_in(documents, tmp_path / "w", parts=2, say=said.append).fingerprint()
    assert said[0] == "duplicates: signed, 2 tasks"
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "w").rglob("*") if file.is_file()}
    (tmp_path / "w" / "matched" / ".000000.killed").mkdir()
    assert found_in(documents, tmp_path / "w", parts=2).fingerprint() == expected
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "w").rglob("*") if file.is_file()}
    with pytest.raises(DataError, match="holds work for other documents, another config"):
        found_in(documents, tmp_path / "w", parts=3)


def test_a_folder_that_is_used_again_is_read_again(tmp_path):
    text = " ".join(f"w{i}" for i in range(60))
    for turn in range(3):
        copies = [Document(id=f"{turn}-{i}", text=text + f" {'z ' * i}") for i in range(2 + turn)]
        unlike = [text.replace("w", f"v{i}") for i in range(turn)]
        others = [Document(id=f"{turn}-other-{i}", text=text) for i, text in enumerate(unlike)]
        found = found_in(others + copies, tmp_path / "w")
        assert sum(found.counts().values()) == 1 + turn
        assert all(row.id.startswith(f"{turn}-") for row in found.removals())
        shutil.rmtree(tmp_path / "w")


def test_large_groups_stay_cheap_and_still_lose_their_duplicates(tmp_path):
    """800 pages of one template: compared with few others each, though all share bands."""
    source = random.Random(3)
    template = " ".join(f"t{i}" for i in range(300))
    pages = [template + " " + " ".join(f"n{source.getrandbits(40)}" for _ in range(25)) for _ in range(800)]
    unlike = [f"{template[: 4 * i]} " + " ".join(f"u{i}x{k}" for k in range(260)) for i in range(100, 110)]
    documents = [Document(id=f"{i}", text=text) for i, text in enumerate(pages + unlike)]
    found = found_in(documents, tmp_path, config=DuplicatesConfig(group_limit=50))
    assert found.pairs_compared < len(documents) * (25 + 32) * 28 / 2
    assert found.pairs_not_compared > 0
    assert found.counts()["duplicates.near"] >= 0.95 * len(pages)
    for removal in found.removals():
        first, second = documents[int(removal.id)].text, documents[int(removal.kept_id)].text
        assert jaccard(shingles_of(first), shingles_of(second)) >= THRESHOLD
    random.Random(1).shuffle(documents)
    again = found_in(documents, tmp_path / "again", parts=3, config=DuplicatesConfig(group_limit=50))
    assert again.fingerprint() == found.fingerprint()


def test_texts_without_words_are_duplicates_only_of_the_same_bytes(tmp_path):
    texts = ["", "", " ", "...", "...", "!!!"]
    found = found_in([Document(id=f"{i}", text=text) for i, text in enumerate(texts)], tmp_path, parts=2)
    assert found.counts() == {"duplicates.exact": 2, "duplicates.same_words": 0, "duplicates.near": 0}


def test_a_million_of_one_character_and_many_copies_are_harmless(tmp_path):
    texts = ["x" * 1_000_000, "x" * 999_999, "x " * 500_000, "y " * 400_000, "漢" * 300_000] + ["404 not found"] * 3000
    found = found_in([Document(id=f"{i}", text=text) for i, text in enumerate(texts)], tmp_path, parts=2)
    assert found.counts() == {"duplicates.exact": 2999, "duplicates.same_words": 0, "duplicates.near": 0}


def test_a_document_given_twice_goes_once(tmp_path):
    one = [Document(id="same", text="a b c d e f g")] * 2
    assert [(row.id, row.kept_id) for row in found_in(one, tmp_path, parts=2).removals()] == [("same", "same")]


def test_a_lone_surrogate_is_named(tmp_path):
    with pytest.raises(DataError, match="document 'bad' has a lone surrogate at character 2"):
        found_in([Document(id="bad", text="ab\ud800")], tmp_path)


def test_a_quality_that_is_no_number_is_named(tmp_path):
    with pytest.raises(DataError, match="document 'odd' has the quality nan"):
        found_in([Document(id="odd", text="a", metadata={"quality": float("nan")})], tmp_path)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(DataError, match="no documents"):
        find_duplicates([], tmp_path)
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        find_duplicates([], tmp_path, workers=0)
    assert not list(found_in([], tmp_path).removals())


class Changing:
    """A part that is another one when it is read again."""

    name = "changing"

    def __init__(self, *readings):
        self.readings = iter(readings)

    def batches(self, batch_bytes):
        return MemoryPart(name="x", documents=next(self.readings)).batches(batch_bytes)


def test_a_part_that_changes_between_its_readings_is_noticed(tmp_path):
    text = " ".join(f"w{i}" for i in range(100))
    first = [Document(id=f"{i}", text=text + f" {i}") for i in range(3)]
    with pytest.raises(DataError, match="changing has changed since its first reading"):
        find_duplicates([Changing(first, first[::-1])], tmp_path / "a")
    with pytest.raises(DataError, match="changing had 3 documents and now has 4"):
        find_duplicates([Changing(first, [*first, first[0]])], tmp_path / "b")


def test_a_reason_for_the_funnel(tmp_path):
    text = " ".join(f"w{i}" for i in range(100))
    found = found_in([Document(id=f"{i}", text=text + " z" * i) for i in range(2)], tmp_path)
    (removal,) = found.removals()
    assert removal.similarity == Fraction(96, 97)
    assert str(removal.reason()) == f"duplicates.near: of {removal.kept_id}, similarity 0.990"


def test_files_are_parts(tmp_path):
    file = tmp_path / "pages.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ["a b c", "A, b, c!", "d"]))
    found = find_duplicates([FilePart(path=file)], tmp_path / "work")
    assert found.counts()["duplicates.same_words"] == 1


class Dies:
    """A part whose first reader is killed."""

    name = "dies"

    def __init__(self, documents, marker):
        self.documents, self.marker = documents, marker

    def batches(self, batch_bytes):
        import os
        import signal

        yield from MemoryPart(name="x", documents=self.documents[::2]).batches(batch_bytes)
        if not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from MemoryPart(name="x", documents=self.documents[1::2]).batches(batch_bytes)


def test_a_killed_worker_changes_nothing(documents, tmp_path):
    some = documents[:150]
    expected = found_in(some, tmp_path / "a", parts=2).fingerprint()
    parts = [MemoryPart(name="0", documents=some[::2]), Dies(some[1::2], tmp_path / "marker")]
    assert find_duplicates(parts, tmp_path / "b", workers=2).fingerprint() == expected
    assert (tmp_path / "marker").exists()


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="../shared/data/curation/dedup-fixtures is absent")
def test_real_near_duplicates(tmp_path):
    licenses = [
        Document(id=path.stem, text=path.read_text())
        for path in sorted((FIXTURES / "documents_with_fuzzy_duplicates").iterdir())
    ]
    found = found_in(licenses, tmp_path / "a")
    pair = {"rails_mit_license", "react_mit_license"}
    truth = true_pairs(licenses)
    assert [{licenses[a].id, licenses[b].id} for a, b in truth] == [pair]
    assert [{row.id, row.kept_id} for row in found.removals()] == [pair]
    lines = (FIXTURES / "datajuicer_dedup.jsonl").read_text().splitlines()
    samples = [Document(id=f"{i}", text=json.loads(line)["text"]) for i, line in enumerate(lines)]
    found, truth = found_in(samples, tmp_path / "b"), true_pairs(samples)
    removed = {int(row.id) for row in found.removals()}
    assert all(removed & set(pair) for pair in truth)
    assert {int(row.id): int(row.kept_id) for row in found.removals()}.keys() <= {n for pair in truth for n in pair}
