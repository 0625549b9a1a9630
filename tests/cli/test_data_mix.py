import json

import numpy as np
import pytest

from mamba_slm.cli.main import main
from mamba_slm.data.mixture_file import read_mixture_file
from mamba_slm.data.shards import ShardWriter
from mamba_slm.training.data_arguments import parse_sources

PUBLISHED = ("c4", "pile", "starcoder", "gutenberg", "wikipedia", "arxiv", "openwebtext", "stackexchange")


def write_shards(folder, documents, length=40):
    with ShardWriter(folder, tokenizer_fingerprint="t", vocab_size=300) as writer:
        for number in range(documents):
            writer.append((np.arange(length + number % 7) + number) % 300, text_bytes=length)


@pytest.fixture(autouse=True)
def shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shards(tmp_path / "web", 300)
    write_shards(tmp_path / "code" / "train", 100)


def mix(capsys, *words, code=0):
    assert main(["data", "mix", *words]) == code
    return capsys.readouterr()


def test_a_mixture_prints_itself_with_epochs_and_warnings(capsys):
    shown = mix(capsys, "web=web:0.7", "code=code:0.3", "--tokens", "20k", "--context-tokens", "64")
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[0] == ["source", "share", "documents", "tokens", "rows", "empty", "epochs"]
    assert [row[:3] for row in rows[1:]] == [["code", "30.00%", "100"], ["web", "70.00%", "300"]]
    assert "careful" not in shown.err
    assert (
        "careful: code is read 14."
        in mix(capsys, "web=web:7", "code=code:3", "--tokens", "200k", "--context-tokens", "64").err
    )


def test_any_sample_is_shown_at_once(capsys):
    shown = mix(capsys, "web=web", "code=code", "--sample", "1T", "--context-tokens", "64").out
    (line,) = [line for line in shown.splitlines() if line.startswith("sample")]
    assert line.startswith("sample 1,000,000,000,000: ") and " row " in line and "document " in line
    assert line in mix(capsys, "code=code", "web=web", "--sample", "1T", "--context-tokens", "64").out


def test_programs_get_shares_rows_phases_and_the_sample(capsys):
    words = ["web=web:1", "code=code:1", "--change", "6400:web=1,code=3", "--context-tokens", "64"]
    found = json.loads(mix(capsys, *words, "--tokens", "12800", "--sample", "150", "--json").out)
    assert [source["name"] for source in found["sources"]] == ["code", "web"]
    assert {"share", "documents", "tokens", "rows", "empty_share", "epochs"} <= set(found["sources"][0])
    assert [phase["from_sample"] for phase in found["phases"]] == [0, 100]
    assert found["phases"][1]["shares"] == {"code": 0.75, "web": 0.25}
    assert found["sample"]["source"] in ("web", "code") and found["sample"]["pieces"]
    assert len(found["fingerprint"]) == 64


def test_the_file_that_is_written_is_what_training_and_mixing_read(capsys):
    words = ["web=web", "code=code", "--temperature", "2", "--change", "1M:code=1"]
    first = mix(capsys, *words, "--out", "mixture.yaml")
    assert "mamba-slm train --data mixture.yaml" in first.err
    assert read_mixture_file("mixture.yaml").temperature == 2
    assert [source.name for source in parse_sources(["mixture.yaml"])] == ["web", "code"]
    assert mix(capsys, "mixture.yaml").out == first.out
    assert "exists already" in mix(capsys, *words, "--out", "mixture.yaml", code=5).err


def test_the_published_mixture_takes_folders_by_name_and_says_what_was_changed(tmp_path, capsys):
    for number, name in enumerate(PUBLISHED):
        write_shards(tmp_path / "tokens" / name, 20 + number)
    shown = mix(capsys, "--published", "tokens", "--context-tokens", "64", "--json")
    assert "changed: books3 is withdrawn: its 10% go to gutenberg" in shown.err
    shares = {source["name"]: source["share"] for source in json.loads(shown.out)["sources"]}
    assert shares == {
        "c4": 0.3, "pile": 0.25, "starcoder": 0.15, "gutenberg": 0.1,
        "wikipedia": 0.05, "arxiv": 0.05, "openwebtext": 0.05, "stackexchange": 0.05,
    }  # fmt: skip
    write_shards(tmp_path / "tokens" / "books3", 9)
    own_copy = json.loads(mix(capsys, "--published", "tokens", "--context-tokens", "64", "--json").out)
    assert "books3" in [source["name"] for source in own_copy["sources"]]


def test_a_published_source_without_a_folder_is_named_with_the_way_out(tmp_path, capsys):
    for name in PUBLISHED[:-1]:
        write_shards(tmp_path / "tokens" / name, 20)
    shown = mix(capsys, "--published", "tokens", code=5)
    assert "no token shards of stackexchange" in shown.err and "--without stackexchange" in shown.err
    shown = mix(capsys, "--published", "tokens", "--without", "stackexchange", "--context-tokens", "64")
    assert "changed: stackexchange is not wanted: its 5% go to the others" in shown.err


def test_what_cannot_be_mixed_is_refused(tmp_path, capsys):
    (tmp_path / "book.txt").write_text("text")
    assert "mix what?" in mix(capsys, code=2).err
    assert "names the sources itself" in mix(capsys, "web=web", "--published", ".", code=2).err
    shown = mix(capsys, "book.txt", code=5)
    assert "holds no token shards" in shown.err and "data tokenize book.txt" in shown.err
    assert "some sources have a weight" in mix(capsys, "web=web:1", "code=code", code=2).err
    assert "is not TOKENS:NAME=WEIGHT" in mix(capsys, "web=web", "--change", "5B", code=2).err
    assert "did you mean 'web'" in mix(capsys, "web=web", "--change", "5k:wep=1", code=2).err
    assert "must end in .yaml" in mix(capsys, "web=web", "--out", "mixture", code=2).err
