"""From S3 to S3: the same bytes as from this machine to this machine."""

import pytest

from data.curation.prose import good_prose, write_jsonl
from data.curation.test_curate import bytes_of, kept_rows
from mamba_slm.cli.main import main
from mamba_slm.data.storage import fetch, list_files, publish


@pytest.fixture
def pages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = good_prose(40)
    write_jsonl(tmp_path / "pages" / "a.jsonl", texts[:25])
    write_jsonl(tmp_path / "pages" / "b.jsonl", texts[20:])
    return tmp_path / "pages"


def test_a_curation_of_addresses_is_that_of_the_same_files(tmp_path, pages, bucket, capsys):
    publish(pages, f"{bucket}/pages", last="b.jsonl")
    words = ["--kind", "web", "--drop-share", "0", "--workers", "2"]
    assert main(["data", "curate", "pages", *words, "--out", "here"]) == 0
    assert main(["data", "curate", f"{bucket}/pages", *words, "--out", "there", "--publish", f"{bucket}/out"]) == 0
    assert "published at s3://" in capsys.readouterr().err
    here, there = kept_rows("here"), kept_rows("there")
    assert [(id, row["text"]) for (_, id), row in here.items()] == [(id, row["text"]) for (_, id), row in there.items()]
    for file in list_files(f"{bucket}/out", "*"):
        fetch(file, tmp_path / "back")
    assert bytes_of("back") == bytes_of("there")


def test_a_place_to_publish_that_is_no_address_is_refused_before_anything_runs(pages, capsys):
    assert main(["data", "curate", "pages", "--kind", "web", "--out", "out", "--publish", "bucket/out"]) == 2
    assert "--publish bucket/out is no address" in capsys.readouterr().err
