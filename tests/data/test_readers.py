import gzip
import json
import logging
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")


def write(folder, name, content):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def texts(path, report=None, **settings):
    return [document.text for document in read_documents(path, ReadOptions(**settings), report=report)]


def problem_with(path, **settings):
    with pytest.raises(DataError) as caught:
        texts(path, **settings)
    return caught.value


@given(lines=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8))
@settings(max_examples=40)
def test_json_lines_come_back_however_they_are_packed(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("lines")
    content = "".join(json.dumps({"text": line, "n": n}) + "\n" for n, line in enumerate(lines)).encode()
    packed = {
        "a.jsonl": content,
        "b.ndjson": content.replace(b"\n", b"\r\n\r\n").rstrip(),
        "c.jsonl.gz": gzip.compress(content),
        "d.jsonl.zst": zstandard.compress(content),
        "e.json": content if len(lines) > 1 else json.dumps(lines).encode(),
        "f.json": json.dumps([json.loads(line) for line in content.splitlines()], indent=1).encode(),
        "g.jsonl": content.decode().encode("utf-16"),
        "h.jsonl": b"\xef\xbb\xbf" + content,
        "i.jsonl": "\n".join(map(json.dumps, lines)).encode(),
    }
    for name, data in packed.items():
        assert texts(write(folder, name, data)) == lines, name
    assert texts(folder) == lines * len(packed)


def test_documents_know_their_place_and_the_rest_of_their_record(tmp_path):
    write(tmp_path, "b/x.jsonl", '{"text": "one", "lang": "en"}\n\n{"text": "two"}\n')
    write(tmp_path, "a.md", "three\r\n")
    write(tmp_path, "c.json", '[{"text": "four"}, "five"]')
    documents = list(read_documents(tmp_path))
    assert [document.id for document in documents] == ["a.md", "b/x.jsonl:1", "b/x.jsonl:3", "c.json:1", "c.json:2"]
    assert [document.text for document in documents] == ["three\r\n", "one", "two", "four", "five"]
    assert documents[1].metadata == {"lang": "en"}
    assert {document.source for document in documents} == {str(tmp_path)}
    assert next(read_documents(tmp_path / "a.md")).id == "a.md"


def test_the_text_may_be_under_another_key(tmp_path):
    file = write(tmp_path, "x.jsonl", '{"content": "one"}')
    assert texts(file, text_key="content") == ["one"]
    problem = problem_with(file)
    assert str(problem) == f"{file}:1 has no key 'text'; its keys are: 'content'"
    assert "--text-key" in problem.hint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "is not valid JSON: Expecting ',' delimiter at column 13"),
        ("nonsense", "is not valid JSON: Expecting value at column 1"),
        ("{}", "has no key 'text'; its keys are: none"),
        ('{"text": null}', "the value of 'text' is not text but null"),
        ('{"text": ["a"]}', "the value of 'text' is not text but list"),
        ("17", "the record is not text but int"),
        ('{"text": "\\ud83d"}', "half of a surrogate pair"),
        ("[" * 100_000, "JSON that cannot be read: maximum recursion depth"),
        ('{"n": ' + "9" * 5000 + "}", "JSON that cannot be read: Exceeds the limit"),
        (b'{"text": "caf\xe9"}', "is not utf-8: byte 0xe9 at offset 13"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line_or_left_out_and_counted(tmp_path, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    file = write(tmp_path, "x.jsonl", b'{"text": "good"}\n' + line + b'\n{"text": "also good"}\n')
    problem = problem_with(file)
    assert str(problem).startswith(f"{file}:2") and message in str(problem) and problem.hint
    report = ReadReport()
    assert texts(file, on_error="skip", report=report) == ["good", "also good"]
    assert (report.num_documents, report.num_problems, report.num_files) == (2, 1, 1)
    assert [str(kept) for kept in report.problems] == [str(problem)]
    assert str(problem) in str(report)


def test_a_broken_json_file_is_named_with_line_and_column(tmp_path):
    file = write(tmp_path, "x.json", '[{"text": "a"},\n {"text" "b"}]')
    assert str(problem_with(file)) == f"{file} is not valid JSON: Expecting ':' delimiter at line 2, column 10"


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.json", "x.txt.gz"])
@pytest.mark.parametrize("content", ["", " \n\n"])
def test_an_empty_file_is_an_error(tmp_path, name, content):
    data = content.encode()
    file = write(tmp_path, name, gzip.compress(data) if name.endswith("gz") else data)
    assert str(problem_with(file)) == f"{file} is empty"


def test_empty_files_among_others_are_left_out_and_counted(tmp_path):
    write(tmp_path, "__init__.py", "")
    write(tmp_path, "a.py", "x = 1\n")
    write(tmp_path, "image.png", b"\x89PNG\x00")
    report = ReadReport()
    assert texts(tmp_path, report=report) == ["x = 1\n"]
    assert (report.num_files, report.num_documents, report.num_empty) == (2, 1, 1)
    lines = str(report).splitlines()
    assert lines == [
        "1 documents from 2 files",
        "1 without text left out",
        "other files in the folder, not read: 1 .png",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"\x7fELF\x00\x00", "is a binary file"),
        ("x.txt", b"caf\xe9 noir", "is not utf-8: byte 0xe9 at offset 3"),
        ("x.jsonl", b"\x00\x01\n\x00\n", "is a binary file"),
        ("x.txt.gz", b"not gzip", "is not a valid .gz file"),
        ("x.jsonl.zst", zstandard.compress(b'{"text": "a"}\n' * 99)[:-3], "is cut off"),
    ],
)
def test_a_file_that_cannot_be_read_stops_or_is_left_out(tmp_path, name, content, message):
    bad = write(tmp_path, name, content)
    write(tmp_path, "z.md", "good")
    assert message in str(problem_with(tmp_path))
    assert str(bad) in str(problem_with(tmp_path))
    report = ReadReport()
    assert texts(tmp_path, on_error="skip", report=report)[-1] == "good"
    assert report.num_problems == 1 and message in str(report.problems[0])


def test_leaving_everything_out_is_an_error(tmp_path):
    write(tmp_path, "x.txt", b"\xff\xff\xff")
    write(tmp_path, "y.jsonl", "oops\noops\n")
    problem = problem_with(tmp_path, on_error="skip", report=ReadReport())
    assert "2 files, 0 documents without text, 3 that could not be read" in str(problem)


def test_what_is_left_out_is_never_silent(tmp_path, caplog):
    file = write(tmp_path, "x.jsonl", 'oops\n{"text": "a"}')
    with caplog.at_level(logging.WARNING):
        assert texts(file, on_error="skip") == ["a"]
    assert f"left out: {file}:1 is not valid JSON" in caplog.text


def test_only_the_first_problems_are_kept_but_all_are_counted(tmp_path):
    report = ReadReport()
    file = write(tmp_path, "x.jsonl", "oops\n" * 100 + '"a"')
    assert texts(file, on_error="skip", report=report) == ["a"]
    assert (report.num_problems, len(report.problems)) == (100, 20)


def test_text_in_another_encoding_is_read_on_request(tmp_path):
    write(tmp_path, "a.txt", "café".encode("latin-1"))
    write(tmp_path, "b.txt", "\ufeffcafé".encode("utf-16-be"))
    write(tmp_path, "c.jsonl", '{"text": "café"}'.encode("latin-1"))
    assert texts(tmp_path, encoding="latin-1") == ["café"] * 3
    wide = write(tmp_path, "d.jsonl", '{"text": "café"}\n"x"'.encode("utf-16-le"))
    assert texts(wide, encoding="utf-16-le") == ["café", "x"]


def test_wrong_settings_are_refused_before_anything_is_read(tmp_path):
    write(tmp_path, "a.txt", "x")
    with pytest.raises(ConfigError, match="did you mean 'skip'"):
        ReadOptions(on_error="skp")
    with pytest.raises(ConfigError, match="unknown encoding"):
        ReadOptions(encoding="utf9")
    with pytest.raises(ConfigError, match="max_document_bytes must be positive"):
        ReadOptions(max_document_bytes=0)
    with pytest.raises(DataError, match="there is no file or folder"):
        read_documents(tmp_path / "none")


@needs_shared_data
def test_real_books_in_two_encodings_are_read_or_named():
    books = SHARED / "corpora" / "gutenberg"
    report = ReadReport()
    documents = list(read_documents(books, ReadOptions(on_error="skip"), report=report))
    assert len(documents) + report.num_problems == 37
    assert report.num_problems >= 3 and all("is not utf-8: byte 0x" in str(problem) for problem in report.problems)
    faust = next(path for path in books.iterdir() if "Faust" in path.name)
    with pytest.raises(DataError, match=r"byte 0x\w\w at offset \d+ \(line \d+\)") as caught:
        texts(faust)
    assert "--encoding latin-1" in caught.value.hint
    repaired = ReadReport()
    documents = list(read_documents(books, ReadOptions(encoding_errors="repair"), report=repaired))
    assert len(documents) == 37 and repaired.num_repaired == report.num_problems
    texts_by_name = {document.id: document.text for document in documents}
    assert texts_by_name[faust.name] == texts(faust, encoding="cp1252")[0]
    assert "Königliche" in texts(faust, encoding="latin-1")[0] or "König" in texts(faust, encoding="latin-1")[0]


@needs_shared_data
@pytest.mark.parametrize(
    ("path", "key", "minimum"),
    [
        ("corpora/c4", "text", 10),
        ("corpora/arxiv", "text", 10),
        ("corpora/redpajama-pile-samples", "text", 10),
        ("corpora/stackexchange/torchtune_stack_exchange_paired_tiny.json", "question", 10),
        ("curation/warc", "text", 37),
        ("corpora/tinystories", "text", 4),
        ("corpora/stackexchange/datajuicer_stack_exchange.jsonl", "text", 1),
        ("corpora/stackexchange/Posts.xml", "text", 1),
        ("instructions/hh-rlhf/harmless-base_test.jsonl.gz", "chosen", 100),
        ("instructions/dolly/dolly_hhrlhf_train_small.jsonl", "prompt", 1),
        ("instructions/raschka-instructions/instruction-data.json", "instruction", 1000),
        ("curation/pii/dolma_provided_documents_000.json.gz", "text", 1),
    ],
)
def test_real_corpora_are_read(path, key, minimum):
    documents = list(read_documents(SHARED / path, ReadOptions(text_key=key)))
    assert len(documents) >= minimum
    assert all(document.text.strip() and document.num_bytes for document in documents)
