"""The same shards for any number of workers, any size of parts, and after any kill."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamba_slm.core.errors import ConfigError, DataError, DiskFullError
from mamba_slm.data.encode import encode_documents
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.shards import TokenShards
from mamba_slm.data.tokenization import part
from mamba_slm.data.tokenization.part import is_held_out
from mamba_slm.data.tokenization.tokenize import tokenize
from mamba_slm.text import bulk
from mamba_slm.text.bulk import DifferentIdsError, FastEncoder
from mamba_slm.text.tokenizer import Tokenizer

OTHER_WORK = {"stage": "s", "task": "0", "state": "done", "attempts": 1, "configuration": "other"}
WORDS = "the lake is deep and cold 12 hens don't swim in it\n"


@pytest.fixture
def texts(tmp_path):
    """500 documents in JSON Lines, in files and folders of different sizes."""
    folder = tmp_path / "texts"
    folder.mkdir()
    number = 0
    for name, count in (("a.jsonl", 300), ("b.jsonl", 1), ("c.jsonl", 199)):
        lines = []
        for _ in range(count):
            lines.append(json.dumps({"text": f"{number} {WORDS * (number % 7)}"}))
            number += 1
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def expected(texts, tokenizer, tmp_path):
    """As one process writes it."""
    return files_of(tokenize([str(texts)], tokenizer, tmp_path / "expected", max_shard_tokens=20_000).folder)


@pytest.mark.parametrize(("workers", "part_bytes"), [(1, 9000), (2, 20_000), (3, 4000)])
def test_workers_and_sizes_of_parts_change_no_byte(texts, tokenizer, tmp_path, expected, workers, part_bytes):
    done = tokenize(
        [str(texts)], tokenizer, tmp_path / "out", workers=workers, part_bytes=part_bytes, max_shard_tokens=20_000
    )
    assert files_of(done.folder) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "out", "texts"]


def test_the_exact_way_gives_the_same_bytes(texts, tokenizer, tmp_path, expected):
    done = tokenize([str(texts)], tokenizer, tmp_path / "out", speed="exact", max_shard_tokens=20_000)
    assert files_of(done.folder) == expected
    assert done.parts["train"].encoder == "tokenizers (asked for)"


def test_the_shards_are_those_of_the_documents_in_their_order(texts, tokenizer, tmp_path, expected):
    documents = list(read_documents(texts))
    for name, is_wanted in (("train", False), ("validation", True)):
        encode_documents(
            [one for one in documents if is_held_out(one, one.text.encode(), 0.02) == is_wanted],
            tokenizer,
            tmp_path / name,
            max_shard_tokens=20_000,
        )
        written, same = TokenShards.open(tmp_path / "expected" / name), TokenShards.open(tmp_path / name)
        assert written.fingerprint == same.fingerprint
        assert written.text_bytes == same.text_bytes
        assert written.num_documents == same.num_documents > 0
    assert Tokenizer.load(tmp_path / "expected").fingerprint == tokenizer.fingerprint


def test_copies_are_never_on_both_sides(tokenizer, tmp_path):
    texts = [f"document {number % 50}" for number in range(500)]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(text) for text in texts))
    done = tokenize([str(tmp_path / "x.jsonl")], tokenizer, tmp_path / "out", validation_share=0.3)
    sides = {}
    for name in done.parts:
        shards = TokenShards.open(tmp_path / "out" / name)
        sides[name] = {tokenizer.decode(shards.document(i).tolist()) for i in range(shards.num_documents)}
        assert shards.num_documents == 10 * len(sides[name])
    assert not sides["train"] & sides["validation"] and len(sides["validation"]) > 5


def test_the_manifest_says_where_the_documents_come_from(texts, tokenizer, tmp_path):
    curated = tmp_path / "curated"
    curated.mkdir()
    (curated / "part-00000.jsonl.zst").symlink_to(write_compressed(tmp_path, '{"text": "kept"}\n{"text": "also"}\n'))
    sources = [{"name": "c4", "licence": "ODC-BY", "kind": "web"}]
    (curated / "curation.json").write_text(json.dumps({"fingerprint": "c0ffee", "sources": sources}))
    (curated / "funnel.json").write_text("{}")
    tokenize([str(texts), str(curated)], tokenizer, tmp_path / "out", validation_share=0, part_bytes=5000)
    plain, kept = TokenShards.open(tmp_path / "out" / "train").manifest.provenance
    assert (plain.input, plain.num_documents, plain.licence, plain.curation) == (str(texts), 500, None, None)
    assert (kept.num_documents, kept.text_bytes, kept.licence, kept.curation) == (2, 8, "ODC-BY", "c0ffee")


def write_compressed(folder, content):
    zstandard = pytest.importorskip("zstandard")
    (folder / "kept").write_bytes(zstandard.compress(content.encode()))
    return folder / "kept"


def test_an_encoder_that_is_wrong_in_one_part_is_replaced_in_all(texts, tokenizer, tmp_path, expected, monkeypatch):
    pytest.importorskip("fastokens")

    class Wrong(FastEncoder):
        def encode(self, texts):
            if any(text.startswith("420 ") for text in texts):
                raise DifferentIdsError("fastokens gives other ids than tokenizers near '420'")
            ids, lengths = super().encode(texts)
            return ids // 2, lengths  # wrong, and nobody notices

    part.encoder_of.cache_clear()
    monkeypatch.setattr(bulk, "fast_encoder", functools.cache(Wrong))
    said = []
    done = tokenize(
        [str(texts)],
        tokenizer,
        tmp_path / "out",
        part_bytes=4000,
        max_shard_tokens=20_000,
        reporting=Reporting(say=said.append),
    )
    part.encoder_of.cache_clear()
    assert files_of(done.folder) == expected
    assert list(done.notes) == said
    assert "tokenized again by tokenizers alone: fastokens gives other ids" in done.notes[0]
    assert done.parts["train"].encoder == "tokenizers (asked for)"


SCRIPT = """
import sys
from mamba_slm.data.tokenization.tokenize import tokenize
from mamba_slm.text.tokenizer import Tokenizer
tokenize([sys.argv[1]], Tokenizer.load(sys.argv[2]), sys.argv[3], workers=int(sys.argv[4]), part_bytes=4000,
         max_shard_tokens=20_000)
"""


def num_done(work):
    """Parts that are done; none of a folder that goes because all are."""
    with contextlib.suppress(FileNotFoundError):
        return len(list((work / "auto").glob("[0-9]*")))
    return 0


def test_a_killed_run_continues_with_another_number_of_workers(texts, tokenizer, tmp_path, expected):
    tokenizer.save(tmp_path / "tok")
    out, work = tmp_path / "out", tmp_path / "out.work"
    command = [sys.executable, "-c", SCRIPT, str(texts), str(tmp_path / "tok"), str(out)]
    for wanted in (2, 9):  # parts that must be done before each kill
        process = subprocess.Popen([*command, "1"], start_new_session=True)
        while process.poll() is None and num_done(work) < wanted:
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if not out.exists():
        done = {path: path.stat().st_mtime_ns for path in (work / "auto").glob("[0-9]*/summary.json")}
        assert len(done) >= 2
        subprocess.run([*command, "2"], check=True)
    assert files_of(out) == expected
    assert not work.exists()


def test_a_bad_line_leaves_nothing_behind_or_is_counted(texts, tokenizer, tmp_path):
    (texts / "d.jsonl").write_text('{"text": "one"}\noops\n')
    with pytest.raises(DataError, match=r"d\.jsonl:2 is not valid JSON"):
        tokenize([str(texts)], tokenizer, tmp_path / "out", part_bytes=4000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts"]
    done = tokenize([str(texts)], tokenizer, tmp_path / "out", reading=ReadOptions(on_error="skip"), part_bytes=4000)
    assert (done.read.num_documents, done.read.num_problems, done.read.num_files) == (501, 1, 4)
    assert "d.jsonl:2" in str(done.read.problems[0])


def test_a_disk_without_room_for_the_result_keeps_the_work_and_the_same_call_continues(
    texts, tokenizer, tmp_path, expected, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match="1000 B are free"):
        tokenize([str(texts)], tokenizer, tmp_path / "out", max_shard_tokens=20_000)
    assert (tmp_path / "out.work").is_dir() and not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert files_of(tokenize([str(texts)], tokenizer, tmp_path / "out", max_shard_tokens=20_000).folder) == expected
    assert not (tmp_path / "out.work").exists()


def test_few_documents_are_all_for_training_and_that_is_said(tokenizer, tmp_path):
    (tmp_path / "one.txt").write_text("one text")
    done = tokenize([str(tmp_path / "one.txt")], tokenizer, tmp_path / "out")
    assert list(done.parts) == ["train"]
    assert done.notes == (
        "no validation: 1 documents are too few to hold out 2.0%; a larger --validation-share holds some out",
    )


def test_the_unfinished_work_of_other_input_is_not_touched(texts, tokenizer, tmp_path):
    work = tmp_path / "out.work"
    work.mkdir()
    (work / "manifest.jsonl").write_text(json.dumps(OTHER_WORK) + "\n")
    with pytest.raises(DataError, match="another configuration"):
        tokenize([str(texts)], tokenizer, tmp_path / "out")
    assert (work / "manifest.jsonl").is_file()


def test_what_cannot_work_is_refused_before_anything_is_read(texts, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="validation_share must lie in"):
        tokenize([str(texts)], tokenizer, tmp_path / "out", validation_share=1.0)
    with pytest.raises(DataError, match="texts exists already"):
        tokenize([str(texts)], tokenizer, texts)


@pytest.mark.parametrize(("names", "message"), [(["a.txt"], "a.txt is empty"), (["a.txt", "b.txt"], "no text in")])
def test_input_without_text_is_refused(tokenizer, tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text(" \n")
    paths = [str(tmp_path / name) for name in names]
    with pytest.raises(DataError, match=message):
        tokenize(paths, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()
