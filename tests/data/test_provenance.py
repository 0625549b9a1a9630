import json

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.data.provenance import CURATION, DOWNLOAD, Origin, Source, origin_of


def test_text_without_papers_has_its_name_only(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert origin_of(str(tmp_path)) == Origin(input=str(tmp_path))
    assert origin_of(str(tmp_path / "a.txt")) == Origin(input=str(tmp_path / "a.txt"))


def test_a_download_says_its_licence_page_and_version(tmp_path):
    (tmp_path / DOWNLOAD).write_text(json.dumps({"licence": "ODC-BY", "page": "https://x", "commit": "abc"}))
    for name in (str(tmp_path), str(tmp_path / "part.parquet")):
        assert origin_of(name) == Origin(input=name, licence="ODC-BY", page="https://x", commit="abc")


def test_a_curation_says_its_fingerprint_and_sources(tmp_path):
    sources = [{"name": "c4", "licence": "ODC-BY"}, {"name": "mine"}]
    (tmp_path / CURATION).write_text(json.dumps({"fingerprint": "c0ffee", "sources": sources}))
    found = origin_of(str(tmp_path))
    assert (found.curation, found.licence) == ("c0ffee", None)
    assert found.sources == (Source(name="c4", licence="ODC-BY"), Source(name="mine"))
    (tmp_path / CURATION).write_text(json.dumps({"fingerprint": "c0ffee", "sources": sources[:1]}))
    assert origin_of(str(tmp_path)).licence == "ODC-BY"


@pytest.mark.parametrize("content", ["", "[]", "\x00", '{"sources": [1]}', '{"sources": [{}]}'])
def test_damaged_papers_are_named(tmp_path, content):
    (tmp_path / CURATION).write_text(content)
    with pytest.raises(DataError, match=r"curation\.json is damaged"):
        origin_of(str(tmp_path))
