"""Input in S3 is read as the same files on this machine are."""

import json
import os

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.data.reading import remote
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.parts import plan_parts
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.storage import publish


@pytest.fixture
def pages(tmp_path, bucket, monkeypatch):
    """The same files here, as current folder, and in S3."""
    folder = tmp_path / "pages"
    (folder / "sub").mkdir(parents=True)
    for name, number in (("a.jsonl", 3), ("b.jsonl", 2), ("sub/c.jsonl", 1)):
        (folder / name).write_text("".join(json.dumps({"text": f"{name} {i}"}) + "\n" for i in range(number)))
    (folder / "image.bin").write_bytes(b"\0")
    publish(folder, f"{bucket}/pages", last="a.jsonl")
    monkeypatch.chdir(tmp_path)
    return f"{bucket}/pages"


def read(address, options=None, **settings):
    report = ReadReport()
    parts = plan_parts([address], options, **settings)
    return [document for part in parts for document in part.documents(report)], report, parts


@pytest.mark.parametrize("part_bytes", [1, 80, 10**6])
def test_documents_and_ids_are_the_same_as_here(pages, part_bytes):
    found, report, parts = read(pages, part_bytes=part_bytes)
    expected, expected_report, _ = read("pages")
    assert [(one.id, one.text) for one in found] == [(one.id, one.text) for one in expected]
    assert report == expected_report
    assert {one.source for one in found} == {pages}
    assert len(parts) == {1: 3, 80: 2, 10**6: 1}[part_bytes]
    assert sum(part.size_bytes for part in parts) == sum(len(line) for line in open_lines())


def open_lines():
    for name in ("a.jsonl", "b.jsonl", "sub/c.jsonl"):
        with open(f"pages/{name}") as file:
            yield from file


def test_errors_name_the_address(pages, bucket, tmp_path):
    (tmp_path / "pages" / "b.jsonl").write_text("{broken\n" + json.dumps({"text": "whole"}) + "\n")
    publish(tmp_path / "pages", pages, last="a.jsonl")
    found, report, _ = read(pages, ReadOptions(on_error="skip"))
    assert len(found) == 5
    assert report.problems[0].message.startswith(f"{pages}/b.jsonl:1")
    with pytest.raises(DataError, match=f"^{pages}/b.jsonl:1"):
        read(pages)


def test_a_file_that_has_changed_is_a_problem_of_its_own(pages, tmp_path):
    parts = plan_parts([pages], ReadOptions(on_error="skip"))
    (tmp_path / "pages" / "b.jsonl").write_text(json.dumps({"text": "another"}) + "\n")
    publish(tmp_path / "pages", pages, last="a.jsonl")
    report = ReadReport()
    assert len([document for part in parts for document in part.documents(report)]) == 4
    assert "b.jsonl has changed since it was listed" in report.problems[0].message
    assert plan_parts([pages])[0].size_bytes != parts[0].size_bytes


def test_a_new_version_is_another_part(pages, tmp_path):
    before = [part.name for part in plan_parts([pages], part_bytes=1)]
    assert [part.name for part in plan_parts([pages], part_bytes=1)] == before
    (tmp_path / "pages" / "b.jsonl").write_text((tmp_path / "pages" / "b.jsonl").read_text().replace("1", "7"))
    publish(tmp_path / "pages", pages, last="a.jsonl")
    after = [part.name for part in plan_parts([pages], part_bytes=1)]
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False, True]


def test_what_killed_processes_have_fetched_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(remote.tempfile, "tempdir", str(tmp_path))
    mine, dead, foreign = f"{remote.PREFIX}{os.getpid()}-x", f"{remote.PREFIX}{2**22 + 1}-x", "other"
    for name in (mine, dead, foreign):
        (tmp_path / name).mkdir()
    with remote.scratch_folder() as folder:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine, foreign, folder.name])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine, foreign])
